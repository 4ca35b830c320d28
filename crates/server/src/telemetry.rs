//! What is seen of the daemon: log lines, and metrics for Prometheus.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, reload};

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
    let (filter, handle) = reload::Layer::new(targets);
    // The timer of both prints UTC.
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match settings.format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .context("start logging")?;
    Ok(LogLevel(handle))
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
    use tracing::Level;

    use super::*;

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
