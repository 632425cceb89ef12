//! The log: lines for people or JSON objects, to stderr, on the control thread only.
//!
//! Level and format follow SIGHUP, so both are switches inside one subscriber that is installed once.

use crate::config::{Log, LogFormat, LogLevel};
use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

/// Changes the running log.
pub struct LogControl {
    level: reload::Handle<LevelFilter, Registry>,
    json: Arc<AtomicBool>,
}

impl LogControl {
    /// Installs the process's log. Works once.
    pub fn install(log: Log) -> Result<Self, TryInitError> {
        let (filter, level) = reload::Layer::new(level_filter(log.level));
        let json = Arc::new(AtomicBool::new(log.format == LogFormat::Json));
        let format = EitherFormat {
            text: format::format().with_target(false),
            object: format::format().json().flatten_event(true).with_target(false),
            json: Arc::clone(&json),
        };
        let lines = tracing_subscriber::fmt::layer()
            .event_format(format)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            // It would report a closed stderr on stderr, and panic over that.
            .log_internal_errors(false);
        tracing_subscriber::registry().with(filter).with(lines).try_init()?;
        Ok(Self { level, json })
    }

    /// Applies other settings from the next event on.
    pub fn apply(&self, log: Log) {
        self.json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        // Fails only if the subscriber is gone, and then there is no log to be changed.
        let _ = self.level.reload(level_filter(log.level));
    }
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// Text or JSON, decided anew for each event.
struct EitherFormat {
    text: Format<format::Full>,
    object: Format<format::Json>,
    json: Arc<AtomicBool>,
}

impl<S, N> FormatEvent<S, N> for EitherFormat
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.json.load(Ordering::Relaxed) {
            self.object.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Mutex;

    /// Collects lines.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn format_and_level_change_while_the_log_runs() {
        let sink = Sink::default();
        let (filter, level) = reload::Layer::new(LevelFilter::INFO);
        let json = Arc::new(AtomicBool::new(false));
        let format = EitherFormat {
            text: format::format().with_target(false).with_ansi(false),
            object: format::format().json().flatten_event(true).with_target(false),
            json: Arc::clone(&json),
        };
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer().event_format(format).with_writer(move || writer.clone());
        let control = LogControl { level, json };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(lines), || {
            tracing::info!(port = "lan", "first");
            tracing::debug!("hidden");
            control.apply(Log { level: LogLevel::Debug, format: LogFormat::Json });
            tracing::debug!(port = "wan", "second");
            control.apply(Log { level: LogLevel::Error, format: LogFormat::Text });
            tracing::warn!("hidden, too");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("INFO") && lines[0].ends_with("first port=\"lan\""), "{}", lines[0]);
        let object: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(
            (&object["level"], &object["message"], &object["port"]),
            (&"DEBUG".into(), &"second".into(), &"wan".into())
        );
    }
}
