//! What is seen of the daemon: log lines, and metrics for Prometheus.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, Telemetry as Settings};

/// Parts that are not ours: below `warn` they would drown our lines or print what phones send.
const FOREIGN: [&str; 8] =
    ["h2", "hyper", "hyper_util", "opentelemetry", "rustls", "sqlx", "tonic", "tower"];

/// Log lines and metrics of this process.
pub struct Telemetry {
    level: LogLevel,
    registry: Registry,
    provider: SdkMeterProvider,
}

/// Sets what is logged while the process runs.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<Targets, tracing_subscriber::Registry>);

impl Telemetry {
    /// Begins to log to standard error and to count; once in a process.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let level = start_logging(settings)?;
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .context("register metrics")?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder_empty().with_service_name("brurid");
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(resource.with_attribute(version).build())
            .build();
        opentelemetry::global::set_meter_provider(provider.clone());
        Ok(Self { level, registry, provider })
    }

    /// Sets what is logged while the process runs.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }

    /// What the metrics listener shows.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Ends the counting.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "failed to end the metrics");
        }
    }
}

impl LogLevel {
    /// Logs what `text` says from now on; see [`is_valid_level`].
    pub fn set_level(&self, text: &str) -> anyhow::Result<()> {
        let targets = targets(text).context("no level or list of levels")?;
        self.0.reload(targets).context("set what is logged")
    }
}

/// Whether `text` is a level, or levels by part such as `info,postgres=warn`.
pub fn is_valid_level(text: &str) -> bool {
    targets(text).is_some()
}

fn start_logging(settings: &Settings) -> anyhow::Result<LogLevel> {
    let targets = targets(&settings.log).context("no level or list of levels")?;
    let (subscriber, level) = subscriber(targets, settings.format, io::stderr);
    subscriber.try_init().context("start logging")?;
    Ok(level)
}

/// The filter stands before the layer, not in it: a filter of one layer remembers per thread what it
/// last said no to, and a library that only asks whether it should log then takes the next line of that
/// thread with it.
fn subscriber<W>(
    targets: Targets,
    format: LogFormat,
    writer: W,
) -> (impl Subscriber + Send + Sync, LogLevel)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets);
    // The timer of both prints UTC.
    let layer = fmt::layer().with_writer(writer);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    (tracing_subscriber::registry().with(filter).with(layer), LogLevel(handle))
}

fn targets(text: &str) -> Option<Targets> {
    let mut default = LevelFilter::INFO;
    let mut named = Vec::new();
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            None => default = level(part)?,
            Some((target, text)) if !target.is_empty() => named.push((target, level(text)?)),
            Some(_) => return None,
        }
    }
    let foreign = FOREIGN.map(|target| (target, default.min(LevelFilter::WARN)));
    Some(Targets::new().with_default(default).with_targets(foreign).with_targets(named))
}

fn level(text: &str) -> Option<LevelFilter> {
    match text {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_library_that_asks_whether_to_log_takes_no_line_with_it() {
        let log = Shared::default();
        let writer = log.clone();
        let (subscriber, level) =
            subscriber(targets("info").unwrap(), LogFormat::Text, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..3 {
                // As `log::log_enabled!` asks on behalf of a library.
                let asked = tracing::callsite! {
                    name: "asked", kind: tracing::metadata::Kind::EVENT, level: Level::TRACE, fields:
                };
                tracing::dispatcher::get_default(|dispatch| {
                    dispatch.enabled(tracing::Callsite::metadata(asked))
                });
                tracing::info!("line {number}");
                level.set_level("info,bruri=debug").unwrap();
            }
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 3, "{log}");
    }

    #[test]
    fn levels_are_read_and_foreign_parts_stay_quiet_unless_named() {
        let debug = targets("debug,postgres=warn").unwrap();
        assert!(debug.would_enable("bruri_edge::backup", &Level::DEBUG));
        assert!(!debug.would_enable("postgres", &Level::INFO));
        assert!(!debug.would_enable("hyper::proto", &Level::DEBUG));
        assert!(targets("info,hyper=trace").unwrap().would_enable("hyper::proto", &Level::TRACE));
        assert!(!targets("error").unwrap().would_enable("sqlx", &Level::WARN));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in ["", "loud", "info,loud", "=info", "postgres=loud", "info,"] {
            assert!(!is_valid_level(text), "{text:?}");
        }
    }
}
