//! Where the configuration comes from: a file, then the environment; every key is known by name.

use std::fs;
use std::path::{Path, PathBuf};

use config::{FileFormat, Format as _, Map, Source, Value, ValueKind};

use super::{ConfigError, Sections};

/// The file that is read where none is named and it exists.
const DEFAULT_FILE: &str = "/etc/brurid/brurid.toml";
/// The file in the data directory that `brurid join` writes.
pub const SITE_FILE: &str = "site.toml";
const PREFIX: &str = "BRURI_";

/// Every key; those with a list are comma-separated in the environment.
pub(super) const KEYS: &[(&str, Kind)] = &[
    ("site.name", Kind::Text),
    ("site.data_dir", Kind::Text),
    ("site.deployment_key_file", Kind::Text),
    ("edge.http", Kind::List),
    ("database.url", Kind::Text),
    ("database.pool_max", Kind::Text),
    ("replication.listen", Kind::Text),
    ("replication.advertise", Kind::Text),
    ("replication.peers", Kind::List),
    ("replication.dial", Kind::List),
    ("replication.hub", Kind::Text),
    ("replication.snapshot_records", Kind::Text),
    ("replication.tls.ca_file", Kind::Text),
    ("replication.tls.cert_file", Kind::Text),
    ("replication.tls.key_file", Kind::Text),
    ("ops.socket", Kind::Text),
    ("telemetry.metrics", Kind::Text),
    ("telemetry.log", Kind::Text),
    ("telemetry.format", Kind::Text),
];

/// How a key's value is written in the environment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Text,
    List,
}

/// What was read, and where each key came from.
pub(super) struct Read {
    pub(super) sections: Sections,
    pub(super) file: Option<PathBuf>,
    origins: Map<String, String>,
}

impl Read {
    /// Where a key's value stands: a file, a variable, or nowhere.
    pub(super) fn origin(&self, key: &str) -> &str {
        self.origins.get(key).map_or("the default", String::as_str)
    }
}

/// Reads the file, if there is one, and lays the environment over it.
pub(super) fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Read, ConfigError> {
    let standard = Path::new(DEFAULT_FILE);
    let file = file.or_else(|| standard.exists().then_some(standard)).map(Path::to_owned);
    let mut builder = config::Config::builder();
    if let Some(file) = &file {
        builder = builder.add_source(Values::of_file(file)?);
    }
    let builder = builder.add_source(Values::of_environment(environment)?);
    let merged = build(builder.clone())?;
    // What `brurid join` wrote lies below all else; where it is, the rest says.
    let merged = match site_file(&merged)? {
        Some(site_file) => {
            let below = config::Config::builder().add_source(Values::of_file(&site_file)?);
            build(below.add_source(merged))?
        }
        None => merged,
    };
    let mut origins = Map::new();
    note_origins("", &merged.cache, &mut origins)?;
    let sections = merged
        .try_deserialize::<Sections>()
        .map_err(|error| ConfigError::Malformed(error.to_string()))?;
    Ok(Read { sections, file, origins })
}

fn build(
    builder: config::builder::ConfigBuilder<config::builder::DefaultState>,
) -> Result<config::Config, ConfigError> {
    builder.build().map_err(|error| ConfigError::Malformed(error.to_string()))
}

/// The file in the data directory, where there is one.
fn site_file(merged: &config::Config) -> Result<Option<PathBuf>, ConfigError> {
    let data_dir = match merged.get_string("site.data_dir") {
        Ok(text) if !text.is_empty() => PathBuf::from(text),
        Ok(_) | Err(config::ConfigError::NotFound(_)) => super::validate::default_data_dir(),
        Err(error) => return Err(ConfigError::Malformed(error.to_string())),
    };
    Ok(Some(data_dir.join(SITE_FILE)).filter(|file| file.exists()))
}

/// The values of one source, each with its origin.
#[derive(Clone, Debug)]
struct Values(Map<String, Value>);

impl Values {
    fn of_file(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        let origin = file.display().to_string();
        // Read here and not by the library, which would name the file relative to where we stand.
        let values = FileFormat::Toml.parse(Some(&origin), &text);
        values
            .map(Self)
            .map_err(|e| ConfigError::Malformed(format!("{} in {origin}", e.to_string().trim())))
    }

    /// Those of the variables `BRURI_SECTION__KEY`.
    fn of_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut values = Map::new();
        for (variable, text) in variables {
            // Without a section it is none of ours, e.g. BRURI_SITE of the operators' command.
            let Some(name) = variable.strip_prefix(PREFIX).filter(|name| name.contains("__"))
            else {
                continue;
            };
            let key = name.to_lowercase().replace("__", ".");
            let origin = format!("environment variable {variable}");
            let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) else {
                return Err(unknown(&key, &origin));
            };
            values.insert(key, value(*kind, &text, &origin));
        }
        Ok(Self(values))
    }
}

impl Source for Values {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn value(kind: Kind, text: &str, origin: &str) -> Value {
    let origin = origin.to_owned();
    let text_value = |text: &str| Value::new(Some(&origin), text);
    match kind {
        Kind::Text => text_value(text),
        Kind::List => {
            let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
            Value::new(Some(&origin), ValueKind::Array(entries.map(text_value).collect()))
        }
    }
}

/// Walks what was read: an unknown key is an error that names its place.
fn note_origins(
    path: &str,
    value: &Value,
    origins: &mut Map<String, String>,
) -> Result<(), ConfigError> {
    let origin = origin_of(value).unwrap_or("the configuration");
    match &value.kind {
        _ if KEYS.iter().any(|(known, _)| *known == path) => {
            origins.insert(path.to_owned(), origin.to_owned());
            Ok(())
        }
        ValueKind::Table(entries) if path.is_empty() || is_section(path) => {
            entries.iter().try_for_each(|(name, entry)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                note_origins(&path, entry, origins)
            })
        }
        _ if is_section(path) => Err(ConfigError::Malformed(format!(
            "{path} in {origin} is a section: write [{path}] and its keys below"
        ))),
        _ => Err(unknown(path, origin)),
    }
}

/// Where a value stands; a section, being merged, stands where its first key does.
fn origin_of(value: &Value) -> Option<&str> {
    let of_entry = || match &value.kind {
        ValueKind::Table(entries) => entries.values().find_map(origin_of),
        _ => None,
    };
    value.origin().or_else(of_entry)
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|(key, _)| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn unknown(key: &str, origin: &str) -> ConfigError {
    let section = key.rsplit_once('.').map_or("", |(section, _)| section);
    let siblings: Vec<&str> =
        KEYS.iter().map(|(known, _)| *known).filter(|known| known.starts_with(section)).collect();
    let allowed = if section.is_empty() || siblings.is_empty() {
        KEYS.iter().map(|(known, _)| *known).collect()
    } else {
        siblings
    };
    ConfigError::UnknownKey {
        key: key.to_owned(),
        origin: origin.to_owned(),
        allowed: allowed.join(", "),
    }
}
