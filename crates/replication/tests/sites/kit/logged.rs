//! What the sites of all tests log. A test finds its own lines by names that no other test uses.

use std::{
    io,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Begins to collect lines.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        tracing_subscriber::fmt().with_ansi(false).with_writer(Lines).init();
    });
}

/// The lines that hold all these texts.
pub(crate) fn lines(texts: &[&str]) -> Vec<String> {
    let all = String::from_utf8_lossy(&locked()).into_owned();
    let holds = |line: &&str| texts.iter().all(|text| line.contains(text));
    all.lines().filter(holds).map(str::to_owned).collect()
}

fn locked() -> MutexGuard<'static, Vec<u8>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        locked().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
