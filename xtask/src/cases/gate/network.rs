//! Where work may connect, in every form an address has, and with which sockets.

use super::*;

pub(super) fn addresses(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let job = guest.spawn(&[AGENT, "serve", "0.0.0.0:8443"])?;
    guest.wait_for_output(job, b"listening", BOUND)?;
    let six = guest.spawn(&[AGENT, "serve", "[::1]:8443"])?;
    guest.wait_for_output(six, b"listening", BOUND)?;
    let outcome = (|| {
        expect(guest, &["tcp", ALLOWED], 0, "the listed address")?;
        expect(
            guest,
            &["mapped", ALLOWED],
            0,
            "the same address, v4-mapped",
        )?;
        expect(
            guest,
            &["mapped", "127.0.0.2:8443"],
            REFUSED,
            "another address, v4-mapped",
        )?;
        expect(guest, &["tcp", "127.0.0.1:8444"], REFUSED, "another port")?;
        expect(guest, &["tcp-fast", ALLOWED], 0, "the same, by sending")?;
        expect(
            guest,
            &["tcp-fast", "127.0.0.2:8443"],
            REFUSED,
            "another address, by sending",
        )?;
        expect(
            guest,
            &["tcp", "[::1]:8443"],
            REFUSED,
            "IPv6, which no rule lists",
        )?;
        expect(guest, &["udp", "127.0.0.1:5353"], 0, "a listed datagram")?;
        expect(
            guest,
            &["udp", "127.0.0.1:8443"],
            REFUSED,
            "a TCP rule is not for UDP",
        )?;
        expect(
            guest,
            &["udp-connected", "127.0.0.1:5353"],
            0,
            "a listed datagram, connected",
        )?;
        expect(
            guest,
            &["udp-connected", "127.0.0.3:5353"],
            REFUSED,
            "another, connected",
        )?;
        expect(
            guest,
            &["tcp", "0.0.0.0:8443"],
            REFUSED,
            "any address, which means this host",
        )?;
        expect(
            guest,
            &["source-route", "127.0.0.1:5353"],
            REFUSED,
            "a listed datagram by way of another host",
        )?;
        expect(
            guest,
            &["control", "127.0.0.1:5353"],
            REFUSED,
            "a listed datagram with a control message",
        )?;
        expect(
            guest,
            &["many", "127.0.0.1:5353"],
            REFUSED,
            "two listed datagrams by one call, the second with a control message",
        )?;
        expect(
            guest,
            &["many-connected", "127.0.0.1:5353"],
            0,
            "two by one call to whom the socket is connected to",
        )?;
        for option in ["bind-device", "bind-index", "unicast-interface"] {
            expect(
                guest,
                &[option, "127.0.0.1:5353"],
                REFUSED,
                "a listed datagram by an interface of the sender's choosing",
            )?;
        }
        load(
            guest,
            &Spec {
                allowed: "::1/128",
                ..Spec::default()
            },
        )?;
        expect(
            guest,
            &["tcp", "[::1]:8443"],
            0,
            "IPv6, once a rule lists it",
        )?;
        expect(
            guest,
            &["flow-label", "[::1]:8443"],
            REFUSED,
            "a listed datagram by way of the options of its flow label",
        )
    })();
    guest.kill(job, 9)?;
    guest.kill(six, 9)?;
    outcome
}

pub(super) fn sockets(guest: &mut Guest) -> Result<()> {
    load(guest, &Spec::default())?;
    let slice = format!("--slice={AGENTS_SLICE}");
    // As root, so that only the gate can refuse it.
    let run = [
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--collect",
        &slice,
        "--",
        AGENT,
        "raw",
    ];
    let raw = guest.run(&run)?.code;
    ensure!(raw == REFUSED, "a raw socket: {raw}");
    let outside = guest.run(&[AGENT, "raw"])?.code;
    ensure!(outside == 0, "a raw socket outside: {outside}");
    expect(guest, &["tcp-many-paths"], REFUSED, "TCP of many paths")?;
    let outside = guest.run(&[AGENT, "tcp-many-paths"])?.code;
    ensure!(outside == 0, "TCP of many paths outside: {outside}");
    for (probe, to) in [
        ("source-route", "127.0.0.1:5353"),
        ("control", "127.0.0.1:5353"),
        ("many", "127.0.0.1:5353"),
        ("bind-device", "127.0.0.1:5353"),
        ("bind-index", "127.0.0.1:5353"),
        ("unicast-interface", "127.0.0.1:5353"),
        ("flow-label", "[::1]:5353"),
    ] {
        let outside = guest.run(&[AGENT, probe, to])?.code;
        ensure!(outside == 0, "{probe} outside: {outside}");
    }
    Ok(())
}
