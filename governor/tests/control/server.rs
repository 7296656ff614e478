//! The server over real sockets: what it answers, and what it survives.

use std::{
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::Path,
    process,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use governor::control::{Failure, MAX_MESSAGE, client::Client, proto, server};

use crate::daemon::{Daemon, event};

#[tokio::test]
async fn requests_become_commands_and_answers_come_back() {
    let daemon = Daemon::start(|_| {}).await;
    let mut client = daemon.client().await;

    let status = client
        .status(proto::StatusRequest {})
        .await
        .expect("status");
    assert_eq!(status.daemon.expect("daemon").pid, process::id());

    let file = proto::File {
        path: "policy.toml".into(),
        content: vec![7; 1 << 20],
    };
    let reply = client
        .reload(proto::ReloadRequest {
            files: vec![file.clone()],
            ends_host: true,
        })
        .await;
    assert_eq!(
        reply.expect("reload").changes,
        ["policy.toml: 1048576 bytes, by root, ends the host"]
    );
    let twice = client
        .reload(proto::ReloadRequest {
            files: vec![file.clone(), file],
            ends_host: false,
        })
        .await;
    assert_eq!(
        twice,
        Err(Failure::Usage(
            "the bundle lists `policy.toml` twice".into()
        ))
    );

    let leaf = client
        .enter_zone(proto::EnterZoneRequest {
            zone: "agents".into(),
        })
        .await;
    assert_eq!(
        leaf.expect("leaf").leaf,
        format!("agents/{}", process::id())
    );

    let connect = proto::explain_request::Connect {
        address: "10.20.0.1".into(),
        port: 443,
        protocol: proto::Protocol::Tcp.into(),
        workload: "planner".into(),
    };
    let question = Some(proto::explain_request::Question::Connect(connect.clone()));
    let explained = client
        .explain(proto::ExplainRequest { question })
        .await
        .expect("explained");
    assert_eq!(explained.subject, "planner to 10.20.0.1:443 tcp");
    let odd = proto::explain_request::Connect {
        port: 70_000,
        ..connect
    };
    let question = Some(proto::explain_request::Question::Connect(odd));
    let refused = client.explain(proto::ExplainRequest { question }).await;
    assert_eq!(refused, Err(Failure::Usage("`70000` is no port".into())));
}

#[tokio::test]
async fn refusals_arrive_as_exit_codes() {
    let daemon = Daemon::start(|_| {}).await;
    let mut client = daemon.client().await;
    for (zone, code) in [
        ("denied", 3),
        ("invalid", 2),
        ("unverified", 5),
        ("failed", 1),
    ] {
        let request = proto::ObserveRequest {
            zone: zone.into(),
            seconds: 60,
        };
        let failure = client.observe(request).await.expect_err("refused");
        assert_eq!(
            (failure.code(), failure.to_string()),
            (code, format!("no: {zone}"))
        );
    }
    let request = proto::ObserveRequest {
        zone: "a\x1b[2J".into(),
        seconds: 1,
    };
    let failure = client.observe(request).await.expect_err("refused");
    assert_eq!(
        failure.to_string(),
        "`a\u{fffd}[2J` cannot be the name of a zone"
    );

    let target = Some(proto::revoke_request::Target::All(
        proto::revoke_request::All {},
    ));
    let silent = proto::RevokeRequest {
        target: target.clone(),
        reason: "  ".into(),
    };
    assert_eq!(
        client.revoke(silent).await.expect_err("no reason").code(),
        2
    );
    let spoken = proto::RevokeRequest {
        target,
        reason: "drill".into(),
    };
    assert_eq!(client.revoke(spoken).await.expect("revoked").record, 17);

    let short = client
        .quote(proto::QuoteRequest {
            nonce: Some(vec![1; 15]),
        })
        .await;
    assert_eq!(short.expect_err("short nonce").code(), 2);
}

#[tokio::test]
async fn events_are_remembered_then_followed_and_filtered() {
    let daemon = Daemon::start(|_| {}).await;
    let mut client = daemon.client().await;
    let request = proto::EventsRequest {
        denials: false,
        follow: false,
    };
    let mut stream = client.events(request).await.expect("events");
    let mut ids = Vec::new();
    while let Some(reply) = stream.message().await.expect("event") {
        ids.push(id(reply));
    }
    assert_eq!(ids, [1, 2]);

    let request = proto::EventsRequest {
        denials: true,
        follow: true,
    };
    let mut stream = client.events(request).await.expect("events");
    assert_eq!(stream.message().await.expect("event").map(id), Some(2));
    for number in 2..6 {
        daemon
            .events
            .send(Arc::new(event(number)))
            .expect("a subscriber");
    }
    assert_eq!(stream.message().await.expect("event").map(id), Some(4));
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let daemon = Daemon::start(|_| {}).await;
    let mut client = daemon.client().await;
    let request = proto::EventsRequest {
        denials: false,
        follow: true,
    };
    let mut stream = client.events(request).await.expect("events");
    for number in 3..50_000 {
        daemon
            .events
            .send(Arc::new(event(number)))
            .expect("a subscriber");
    }
    daemon
        .events
        .send(Arc::new(event(50_000)))
        .expect("a subscriber");
    let mut seen = 0;
    let mut lost = 0;
    while seen + lost < 50_000 {
        match stream
            .message()
            .await
            .expect("event")
            .expect("open")
            .item
            .expect("item")
        {
            proto::events_reply::Item::Event(_) => seen += 1,
            proto::events_reply::Item::Lost(count) => lost += count,
        }
    }
    assert_eq!(seen + lost, 50_000);
    assert!(lost > 0, "nothing was lost in a channel of 16");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_and_the_server_goes_on() {
    let daemon = Daemon::start(|_| {}).await;
    let stream = tokio::net::UnixStream::connect(&daemon.path)
        .await
        .expect("connect");
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_| std::future::ready(stream.take().ok_or("used")));
    let channel = tonic::transport::Endpoint::from_static("http://governor")
        .connect_with_connector(connector)
        .await
        .expect("channel");
    let mut unlimited =
        proto::control_client::ControlClient::new(channel).max_encoding_message_size(usize::MAX);
    let file = proto::File {
        path: "big".into(),
        content: vec![0; MAX_MESSAGE],
    };
    let status = unlimited
        .reload(proto::ReloadRequest {
            files: vec![file],
            ends_host: false,
        })
        .await
        .expect_err("too large");
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status}");
    assert_eq!(Failure::from(status).code(), 1);
    daemon
        .client()
        .await
        .status(proto::StatusRequest {})
        .await
        .expect("still answering");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_connection_and_nothing_else() {
    let daemon = Daemon::start(|_| {}).await;
    let path = daemon.path.clone();
    tokio::task::spawn_blocking(move || {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..200 {
            let mut stream = UnixStream::connect(&path).expect("connect");
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("timeout");
            let mut bytes = if round % 2 == 0 {
                PREFACE.to_vec()
            } else {
                Vec::new()
            };
            for _ in 0..(round * 11 + 64) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                bytes.push(seed as u8);
            }
            // The server may close while this is being written.
            drop(stream.write_all(&bytes));
            drop(stream.shutdown(std::net::Shutdown::Write));
            drop(stream.read_to_end(&mut Vec::new()));
        }
    })
    .await
    .expect("writing garbage");
    daemon
        .client()
        .await
        .status(proto::StatusRequest {})
        .await
        .expect("still answering");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_bounded_and_closed() {
    let daemon = Daemon::start(|options| {
        options.connections = 8;
        options.patience = Duration::from_millis(500);
    })
    .await;
    let path = daemon.path.clone();
    let started = Instant::now();
    let (idle, crowded) = tokio::task::spawn_blocking(move || {
        let mut streams: Vec<_> = (0..40)
            .map(|_| UnixStream::connect(&path).expect("connect"))
            .collect();
        // Half of them begin to speak HTTP/2 and then say nothing.
        for stream in streams.iter_mut().step_by(2) {
            drop(stream.write_all(PREFACE));
        }
        let mut idle = 0;
        for stream in &mut streams {
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .expect("timeout");
            // Ends when the server closes it, whatever it said before.
            drop(stream.read_to_end(&mut Vec::new()));
            idle += 1;
        }
        (idle, streams.len())
    })
    .await
    .expect("idle connections");
    assert_eq!((idle, crowded), (40, 40));
    assert!(
        started.elapsed() >= Duration::from_millis(400),
        "closed before their time"
    );
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "not closed in time"
    );
    assert_eq!(daemon.counters.accepted.load(Ordering::Relaxed), 8);
    assert_eq!(daemon.counters.crowded.load(Ordering::Relaxed), 32);

    // One that asked may stay.
    let mut client = daemon.client().await;
    client
        .status(proto::StatusRequest {})
        .await
        .expect("status");
    tokio::time::sleep(Duration::from_millis(800)).await;
    client
        .status(proto::StatusRequest {})
        .await
        .expect("still connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_root_is_closed_before_it_is_read() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let daemon = Daemon::start(|_| {}).await;
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&daemon.path, everyone.clone()).expect("mode");
    std::fs::set_permissions(daemon.directory.path(), everyone).expect("mode");
    // Connects as `nobody` and reports whether the server closed without a word.
    let script = "import socket,sys\n\
        s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])\n\
        try: data = s.recv(100)\n\
        except ConnectionResetError: data = b''\n\
        sys.exit(0 if data == b'' else 1)";
    let path = daemon.path.clone();
    let outcome = tokio::task::spawn_blocking(move || {
        process::Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .uid(65_534)
            .status()
    })
    .await
    .expect("joined");
    match outcome {
        Err(error) => eprintln!("skipped: running `python3`: {error}"),
        Ok(status) => {
            assert!(status.success(), "{status}");
            assert_eq!(daemon.counters.refused.load(Ordering::Relaxed), 1);
            assert_eq!(daemon.counters.accepted.load(Ordering::Relaxed), 0);
        }
    }
}

#[tokio::test]
async fn a_socket_that_answers_is_not_taken_and_a_dead_one_is() {
    let daemon = Daemon::start(|_| {}).await;
    let error = server::bind(&daemon.path).expect_err("taken");
    assert!(
        error.to_string().starts_with("another daemon answers at `"),
        "{error}"
    );
    let mode = std::fs::metadata(&daemon.path)
        .expect("socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);

    let dead = daemon.directory.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("bind"));
    let failure = Client::connect(&dead).await.expect_err("dead");
    assert_eq!(failure.code(), 4);
    assert!(
        failure.to_string().contains("systemctl start governor"),
        "{failure}"
    );
    server::bind(&dead).expect("a dead daemon's socket");
    let missing = Client::connect(Path::new("/nonexistent/control.sock")).await;
    assert_eq!(missing.expect_err("missing").code(), 4);
}

#[tokio::test]
async fn stopping_ends_streams_and_answers_unreachable() {
    let mut daemon = Daemon::start(|_| {}).await;
    let mut client = daemon.client().await;
    let request = proto::EventsRequest {
        denials: false,
        follow: true,
    };
    let mut stream = client.events(request).await.expect("events");
    daemon
        .stop
        .take()
        .expect("running")
        .send(())
        .expect("running");
    let ended = async { while let Ok(Some(_)) = stream.message().await {} };
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("stream ended");
    daemon
        .serving
        .take()
        .expect("running")
        .await
        .expect("joined")
        .expect("clean end");
    let failure = client
        .status(proto::StatusRequest {})
        .await
        .expect_err("stopped");
    assert_eq!(failure.code(), 4, "{failure}");
}

/// What starts every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn id(reply: proto::EventsReply) -> u64 {
    match reply.item.expect("item") {
        proto::events_reply::Item::Event(event) => event.id,
        proto::events_reply::Item::Lost(lost) => panic!("lost {lost}"),
    }
}
