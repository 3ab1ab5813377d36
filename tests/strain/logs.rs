//! Bytes in are bytes out: through rotation, and kills of those who follow and of the monitor.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{CASK, Dice, Ground, asked_for, kill, until};

/// Both streams.
type Streams = [Vec<u8>; 2];

/// Writes pieces of noise for the program to give out, one after the other, and returns them.
fn noise(ground: &Ground, dice: &mut Dice) -> Streams {
    let mut all = Streams::default();
    for number in 0..20 + dice.below(40) {
        let stream = dice.below(2);
        let length = dice.below(12_000);
        let piece: Vec<u8> = (0..length)
            .map(|_| dice.below(256).to_le_bytes()[0])
            .collect();
        ground.t.write(&format!("in/{number:02}.{stream}"), &piece);
        all[usize::try_from(stream).unwrap()].extend(piece);
    }
    all
}

/// Someone who follows the log.
struct Follower {
    child: Child,
    readers: [std::thread::JoinHandle<Vec<u8>>; 2],
}

impl Follower {
    fn new(ground: &Ground) -> Self {
        let mut command = ground.t.command(CASK);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.args(["logs", "-f", "box"]).spawn().unwrap();
        fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                from.read_to_end(&mut all).unwrap();
                all
            })
        }
        let readers = [
            reader(child.stdout.take().unwrap()),
            reader(child.stderr.take().unwrap()),
        ];
        Self { child, readers }
    }

    /// All that it was told, until the container's end or its own.
    fn told(mut self) -> Streams {
        self.child.wait().unwrap();
        self.readers.map(|reader| reader.join().unwrap())
    }
}

#[track_caller]
fn begins(part: &Streams, whole: &Streams) {
    for (part, whole) in part.iter().zip(whole) {
        let same = part.iter().zip(whole).take_while(|(a, b)| a == b).count();
        assert_eq!(
            same,
            part.len(),
            "of {} bytes, which begin {}",
            part.len(),
            whole.len()
        );
    }
}

#[track_caller]
fn equal(got: &Streams, want: &Streams) {
    begins(got, want);
    assert_eq!(got.each_ref().map(Vec::len), want.each_ref().map(Vec::len));
}

fn logs(ground: &Ground) -> Streams {
    Follower::new(ground).told()
}

#[test]
fn what_was_written_is_told_whole_across_rotation_and_kills() {
    let ground = Ground::new();
    let cases = asked_for(3, 60);
    let mut dice = Dice::new(5);
    let mut bytes = 0;
    for case in 1..=cases {
        let want = noise(&ground, &mut dice);
        bytes += want[0].len() + want[1].len();
        println!("case {case}: {} and {} bytes", want[0].len(), want[1].len());
        let size = format!("max-size={}k", 1 + dice.below(40));
        let from = format!("{}:/in:ro", ground.t.path("in").display());
        let script = "for f in /in/*; do case $f in *.0) cat $f;; *) cat $f >&2;; esac; done";
        let options = [
            "--network=none",
            "--log-opt",
            &size,
            "--log-opt",
            "max-file=1000",
            "-v",
            &from,
        ];
        ground
            .t
            .cask(
                &[
                    &["create", "--name=box"],
                    &options[..],
                    &["busybox", "sh", "-c", script],
                ]
                .concat(),
            )
            .ok();

        // The monitor is killed: the log is a beginning, and who followed has all of it.
        ground.t.cask(&["start", "box"]).ok();
        let follower = Follower::new(&ground);
        std::thread::sleep(Duration::from_millis(dice.below(60)));
        if let Some(monitor) = ground.number("box", "monitor") {
            kill(monitor);
        }
        let followed = follower.told();
        until("the container has ended", || {
            ground.states()["box"] == "exited"
        });
        let first = logs(&ground);
        begins(&first, &want);
        equal(&followed, &first);

        // It goes on behind that, whole, whoever of the followers is killed.
        let whole = [0, 1].map(|at| [&first[at][..], &want[at]].concat());
        ground.t.cask(&["start", "box"]).ok();
        let (mut killed, follower) = (Follower::new(&ground), Follower::new(&ground));
        std::thread::sleep(Duration::from_millis(dice.below(60)));
        killed.child.kill().unwrap();
        begins(&killed.told(), &whole);
        equal(&follower.told(), &whole);
        ground.t.cask(&["wait", "box"]).ok();
        equal(&logs(&ground), &whole);
        ground.clear();
        std::fs::remove_dir_all(ground.t.path("in")).unwrap();
    }
    println!("{cases} cases, {bytes} bytes");
}
