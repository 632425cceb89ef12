//! The live view: both nodes and all streams on standard error, redrawn while the demo runs. Without a
//! terminal there is a line for each step and no more.

use std::{
    io::{IsTerminal, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    control::Control,
    pairview::PairView,
    picture::sparkline,
    stream::{StreamKind, Streams, Track, slices},
    topology::Host,
};

const REDRAW: Duration = Duration::from_millis(200);
const SLICE: Duration = Duration::from_millis(50);
const SLICES: usize = 70;

/// The view, until this value is gone.
#[derive(Debug)]
pub struct Live {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stop: AtomicBool,
    terminal: bool,
    step: Mutex<String>,
    tracks: Mutex<Vec<Arc<Track>>>,
    nodes: Vec<(Host, Control)>,
    /// Lines drawn last time, to be drawn over.
    drawn: Mutex<usize>,
}

impl Live {
    /// Begins to show the nodes.
    pub fn start(nodes: Vec<(Host, Control)>) -> Self {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            terminal: std::io::stderr().is_terminal(),
            step: Mutex::new(String::new()),
            tracks: Mutex::new(Vec::new()),
            nodes,
            drawn: Mutex::new(0),
        });
        let thread = shared.terminal.then(|| {
            let shared = shared.clone();
            thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.draw();
                    thread::sleep(REDRAW);
                }
            })
        });
        Self { shared, thread }
    }

    /// Shows streams from now on.
    pub fn watch(&self, streams: &Streams) {
        if let Ok(mut tracks) = self.shared.tracks.lock() {
            *tracks = streams.tracks().to_vec();
        }
    }

    /// Says what happens now.
    pub fn say(&self, step: impl Into<String>) {
        let step = step.into();
        self.shared.over(|shared| {
            eprintln!("{:7.3} s  {step}", shared.started.elapsed().as_secs_f64());
        });
        if let Ok(mut current) = self.shared.step.lock() {
            *current = step;
        }
    }
}

impl Shared {
    /// Prints with the view out of the way.
    fn over(&self, print: impl FnOnce(&Self)) {
        if let Ok(mut drawn) = self.drawn.lock() {
            if *drawn > 0 {
                eprint!("\x1b[{}A\x1b[J", *drawn);
                *drawn = 0;
            }
            print(self);
        }
    }

    fn draw(&self) {
        let mut lines = Vec::new();
        for (host, control) in &self.nodes {
            lines.push(match PairView::ask(control) {
                Some(view) => format!("  node {}  {}", host.name(), view.line()),
                None => format!("  node {}  does not answer", host.name()),
            });
        }
        let tracks = self.tracks.lock().map(|tracks| tracks.clone()).unwrap_or_default();
        let now = Instant::now();
        let from = now.checked_sub(SLICE * SLICES as u32).unwrap_or(now);
        for track in &tracks {
            let recent = track.arrivals_since(from);
            let counts = slices(recent.iter().map(|arrival| arrival.at), from, SLICE, SLICES);
            lines.push(format!("  {:6} |{}|", name(track.kind()), sparkline(&counts)));
        }
        self.over(|_| {});
        if let Ok(mut drawn) = self.drawn.lock() {
            let mut out = std::io::stderr().lock();
            for line in &lines {
                let _ = writeln!(out, "{line}");
            }
            let _ = out.flush();
            *drawn = lines.len();
        }
    }
}

fn name(kind: StreamKind) -> &'static str {
    kind.name()
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.over(|_| {});
    }
}
