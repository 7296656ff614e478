//! Numbers of processes that go from one to the next.

use super::*;

/// Has one number go to and fro, as long as a file is there: to a workload that is moved out of its zone, so that it
/// is found one by one, and as soon as that has ended to somebody who has nothing to do with it. Ends well if none of
/// those was ended or frozen, and each is where it was, or where work was moved to: that is a promise too. Says how
/// many there were of each, and how many of the others began while an order was carried out.
const TO_AND_FRO: &str = r#"use POSIX ();
    my ($go_on, $order, $zone, $elsewhere, $uid, $gid, @work) = @ARGV;
    sub put {
        my ($path, $text) = @_;
        open(my $file, '>', $path) or die "$path: $!"; syswrite $file, $text or die "$path: $!"
    }
    sub place { open(my $file, '<', '/proc/self/cgroup') or die $!; join '', grep { /^0::/ } <$file> }
    for my $cgroup ($elsewhere, $zone) { -d $cgroup or mkdir $cgroup or die "$cgroup: $!" }
    my ($here, $number, $turn, %times) = (place(), 0, 0);
    $number = fork // die "fork: $!"; exit 0 if $number == 0; waitpid $number, 0;
    my $again = sub {
        my ($who, $does) = @_;
        put('/proc/sys/kernel/ns_last_pid', $number - 1);
        my $pid = fork // die "fork: $!";
        if ($pid == 0) { $does->(); POSIX::_exit(0) }
        $times{$who}++ if $pid == $number;
        return $pid;
    };
    while (-e $go_on) {
        pipe(my $read, my $write) or die $!;
        my $work = $again->(work => sub {
            put("$zone/cgroup.procs", 0);
            POSIX::setgid($gid); POSIX::setuid($uid);
            open(STDOUT, '>', '/dev/null') or die $!;
            exec @work; POSIX::_exit(1);
        });
        close $write; my $executed = <$read>;
        eval { put("$elsewhere/cgroup.procs", $work) };
        # The others run until an order reaches them.
        kill 'KILL', $work if $turn++ % 2 || ! -e $go_on;
        waitpid $work, 0;
        die "work ended by itself: $?" if $? >> 8;
        $times{meanwhile}++ if -e $order;
        my $other = $again->(other => sub {
            select undef, undef, undef, 0.02;
            my $place = place();
            POSIX::_exit($place eq $here || $place =~ m{^0::/(elsewhere)?$} ? 0 : 9);
        });
        waitpid $other, 0;
        die "somebody else was reached: $?" if $?;
    }
    print join ' ', map { $times{$_} // 0 } qw(work other meanwhile);"#;

/// A stop means a process and not its number, whoever has that by then.
pub(super) fn taken_over(guest: &mut Guest) -> Result<()> {
    const GO_ON: &str = "/run/numbers";
    const ORDER: &str = "/run/numbers-order";
    load(guest, &Spec::default())?;
    let ids = guest.sh(&format!("id -u {USER}; id -g {USER}"))?.ok()?;
    let ids = ids.text();
    let (user, group) = ids.split_once('\n').context("two numbers")?;
    guest
        .sh(&format!("systemctl start {AGENTS_SLICE} && touch {GO_ON}"))?
        .ok()?;
    let leaf = format!("{ZONE}/numbers");
    let job = guest.spawn(&[
        "perl", "-e", TO_AND_FRO, GO_ON, ORDER, &leaf, ELSEWHERE, user, group, AGENT, "hold",
    ])?;
    let mut reached = 0;
    for verb in ["kill", "pause", "kill", "kill"]
        .iter()
        .cycle()
        .take(ROUNDS)
    {
        guest.run(&["touch", ORDER])?.ok()?;
        let said = by_hand(guest, verb)?.ok()?.text();
        guest.run(&["rm", ORDER])?.ok()?;
        reached += usize::from(said.contains("1 killed") || said.contains("1 paused"));
        if *verb == "pause" {
            // Whoever comes next into that cgroup is to get on.
            by_hand(guest, "resume")?.ok()?;
        }
    }
    guest.run(&["rm", GO_ON])?.ok()?;
    end(guest, Vec::new())?;
    let went = guest.wait(job, BOUND)?.ok()?.text();
    let numbers: Result<Vec<u32>, _> = went.split(' ').map(str::parse).collect();
    let numbers = numbers.with_context(|| format!("three numbers: `{went}`"))?;
    println!(
        "    {reached} of {ROUNDS} orders reached it; work, others, and others meanwhile had the number: {numbers:?}"
    );
    ensure!(reached > 0, "no order reached anybody");
    ensure!(
        numbers.len() == 3 && !numbers.contains(&0),
        "no number was taken over: `{went}`"
    );
    Ok(())
}

const ROUNDS: usize = 12;
