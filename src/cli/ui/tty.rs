//! Progress for people: running steps and moving blobs at the bottom, what is done above them.
//!
//! A running step shows its name, its time and the last lines it printed; a step that failed
//! leaves its last lines on the screen. Drawing is indicatif's, at most fifteen times a second.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clean::{Colours, clean};
use super::steps::{Running, Steps};
use super::{Level, Renderer, TAIL, human, words};
use crate::event::{Event, Motion, Sink, StepId};
use crate::image::Digest;

const TICK: Duration = Duration::from_millis(100);
const HZ: u8 = 15;
/// Lines of output below a running step.
const SHOWN: usize = 4;

/// Draws events on a terminal.
pub(crate) struct Tty {
    level: Level,
    multi: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: Steps,
    bars: HashMap<StepId, StepBar>,
    blobs: HashMap<(Motion, Digest), ProgressBar>,
}

struct StepBar {
    head: ProgressBar,
    /// One bar a line, made as lines come.
    lines: Vec<ProgressBar>,
    tail: VecDeque<String>,
}

impl Tty {
    /// Draws on standard error.
    pub(crate) fn new(level: Level) -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(HZ), level)
    }

    fn on(target: ProgressDrawTarget, level: Level) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        Self {
            level,
            multi,
            state: Mutex::default(),
        }
    }

    fn event(&self, state: &mut State, event: &Event<'_>) {
        match *event {
            Event::StepStarted { step, name } => {
                let name = state.steps.start(step, name).name.clone();
                let head = self.bar(style("{spinner:.cyan} {wide_msg} {elapsed:.dim}"));
                head.set_message(name);
                let bar = StepBar {
                    head,
                    lines: Vec::new(),
                    tail: VecDeque::new(),
                };
                state.bars.insert(step, bar);
            }
            Event::StepCached { name, .. } => {
                let name = clean(name, Colours::Drop);
                self.above(&format!("\x1b[2m• {name}  cached\x1b[0m"));
            }
            Event::StepOutput {
                step,
                stream,
                bytes,
            } => {
                let State { steps, bars, .. } = state;
                let (Some(running), Some(bar)) = (steps.get(step), bars.get_mut(&step)) else {
                    return;
                };
                running.push(stream, bytes, |text| bar.keep(text));
                self.show_tail(running, bar);
            }
            Event::StepDone { step, took } => {
                if let Some((running, _)) = self.end(state, step) {
                    let took = human::elapsed(took);
                    self.above(&format!(
                        "\x1b[32m✓\x1b[0m {}  \x1b[2m{took}\x1b[0m",
                        running.name
                    ));
                }
            }
            Event::StepFailed { step } => {
                if let Some((running, tail)) = self.end(state, step) {
                    self.above(&format!("\x1b[31m✗\x1b[0m {}", running.name));
                    tail.iter()
                        .for_each(|line| self.above(&format!("  {line}")));
                }
            }
            Event::BlobMoved {
                motion,
                blob,
                done,
                total,
            } => {
                let bars = &mut state.blobs;
                let new = || self.blob_bar(motion, blob, total);
                let bar = bars.entry((motion, blob.clone())).or_insert_with(new);
                bar.set_position(done);
            }
            Event::BlobDone { motion, blob } => {
                if let Some(bar) = state.blobs.remove(&(motion, blob.clone())) {
                    self.drop_bar(&bar);
                }
            }
            _ => {}
        }
    }

    fn bar(&self, style: ProgressStyle) -> ProgressBar {
        let bar = self.multi.add(ProgressBar::no_length().with_style(style));
        bar.enable_steady_tick(TICK);
        bar
    }

    fn blob_bar(&self, motion: Motion, blob: &Digest, total: Option<u64>) -> ProgressBar {
        let bar = self.bar(match total {
            Some(_) => style("  {prefix:.dim} {bar:24.cyan} {bytes} / {total_bytes}"),
            None => style("  {prefix:.dim} {spinner:.cyan} {bytes}"),
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_prefix(format!("{:8} {}", words::motion(motion), blob.short()));
        bar
    }

    fn show_tail(&self, running: &Running, bar: &mut StepBar) {
        let pending = running
            .pending()
            .map(|text| clean(&text, Colours::Keep).into_owned());
        let all: Vec<&String> = bar.tail.iter().chain(&pending).collect();
        let shown = &all[all.len().saturating_sub(SHOWN)..];
        while bar.lines.len() < shown.len() {
            let after = bar.lines.last().unwrap_or(&bar.head);
            let line = ProgressBar::no_length().with_style(style("  {wide_msg:.dim}"));
            bar.lines.push(self.multi.insert_after(after, line));
        }
        for (line, text) in bar.lines.iter().zip(shown) {
            line.set_message(text.replace('\t', "    "));
        }
    }

    /// Clears the bars of a step and returns what it printed last.
    fn end(&self, state: &mut State, step: StepId) -> Option<(Running, VecDeque<String>)> {
        let mut running = state.steps.end(step)?;
        let mut bar = state.bars.remove(&step)?;
        running.flush(|_, text| bar.keep(text));
        bar.lines.iter().rev().for_each(|line| self.drop_bar(line));
        self.drop_bar(&bar.head);
        Some((running, bar.tail))
    }

    fn drop_bar(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.multi.remove(bar);
    }

    /// Prints above the bars. A terminal that is gone never fails the work.
    fn above(&self, line: &str) {
        let _ = self.multi.println(line);
    }
}

impl StepBar {
    fn keep(&mut self, text: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(clean(text, Colours::Keep).into_owned());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants of this file, and its tests draw them")
}

impl Sink for Tty {
    fn emit(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match words::note(&event, self.level) {
            Some(note) => self.above(&note),
            None => self.event(&mut state, &event),
        }
    }
}

impl Renderer for Tty {
    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (step, _) in state.steps.drain() {
            if let Some(bar) = state.bars.remove(&step) {
                bar.lines.iter().for_each(|line| self.drop_bar(line));
                self.drop_bar(&bar.head);
            }
        }
        for (_, bar) in state.blobs.drain() {
            self.drop_bar(&bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;
    use crate::event::Stream;

    const WIDTH: usize = 60;

    /// A screen that wraps as terminals do: indicatif fills every line and counts on that.
    #[derive(Debug, Clone, Default)]
    struct Screen(Arc<Mutex<Grid>>);

    #[derive(Debug, Default)]
    struct Grid {
        rows: Vec<Vec<char>>,
        row: usize,
        column: usize,
    }

    impl Grid {
        fn put(&mut self, c: char) {
            match c {
                '\r' => self.column = 0,
                '\n' => (self.row, self.column) = (self.row + 1, 0),
                c => {
                    if self.column == WIDTH {
                        (self.row, self.column) = (self.row + 1, 0);
                    }
                    let missing = (self.row + 1).saturating_sub(self.rows.len());
                    self.rows.extend(vec![vec![' '; WIDTH]; missing]);
                    self.rows[self.row][self.column] = c;
                    self.column += 1;
                }
            }
        }
    }

    impl Screen {
        fn text(&self) -> String {
            let rows = &self.0.lock().unwrap().rows;
            let rows = rows.iter().map(|row| row.iter().collect::<String>());
            let rows: Vec<_> = rows.map(|row| row.trim_end().to_owned()).collect();
            rows.join("\n").trim_end().to_owned()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            60
        }
        fn height(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            let mut grid = self.0.lock().unwrap();
            grid.row = grid.row.saturating_sub(n);
            Ok(())
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.0.lock().unwrap().row += n;
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.write_str("\n")
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            let mut grid = self.0.lock().unwrap();
            let mut rest = text.chars();
            while let Some(c) = rest.next() {
                match c {
                    '\x1b' => drop(rest.find(|c| *c == 'm')),
                    c => grid.put(c),
                }
            }
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            let mut grid = self.0.lock().unwrap();
            let row = grid.row;
            if let Some(row) = grid.rows.get_mut(row) {
                row.fill(' ');
            }
            grid.column = 0;
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn screen(events: Vec<Event<'_>>) -> String {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(screen.clone()), 255);
        let tty = Tty::on(target, Level::Info);
        for event in events {
            tty.emit(event);
            std::thread::sleep(Duration::from_millis(8));
        }
        screen.text()
    }

    #[test]
    fn a_running_step_shows_its_last_lines() {
        let step = StepId(0);
        let bytes = b"1\n2\n3\n4\n5\n6\x1b[2J";
        let stream = Stream::Stdout;
        let text = screen(vec![
            Event::StepStarted {
                step,
                name: "[1/1] RUN make",
            },
            Event::StepOutput {
                step,
                stream,
                bytes,
            },
            Event::StepOutput {
                step,
                stream,
                bytes: b"",
            },
        ]);
        assert!(text.contains("[1/1] RUN make"), "{text}");
        let rows: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(rows, ["3", "4", "5", "6"], "{text}");
    }

    #[test]
    fn what_is_done_stays_above() {
        let (one, two) = (StepId(0), StepId(1));
        let text = screen(vec![
            Event::StepCached {
                step: one,
                name: "[1/2] COPY a /a",
            },
            Event::StepStarted {
                step: two,
                name: "[2/2] RUN make",
            },
            Event::StepOutput {
                step: two,
                stream: Stream::Stdout,
                bytes: b"boom\nlast",
            },
            Event::StepFailed { step: two },
        ]);
        assert_eq!(
            text,
            "• [1/2] COPY a /a  cached\n✗ [2/2] RUN make\n  boom\n  last"
        );
    }

    #[test]
    fn blobs_show_their_bytes_and_go() {
        let blob = &Digest::of(b"x");
        let motion = Motion::Pull;
        let moved = |done| Event::BlobMoved {
            motion,
            blob,
            done,
            total: Some(2048),
        };
        let text = screen(vec![moved(0), moved(1024), moved(1024)]);
        assert!(text.contains("pull     2d711642b726"), "{text}");
        let text = screen(vec![
            moved(0),
            moved(1024),
            Event::BlobDone { motion, blob },
        ]);
        assert_eq!(text, "");
    }
}
