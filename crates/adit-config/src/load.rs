use std::collections::HashSet;
use std::path::Path as FilePath;

use prost_reflect::{DynamicMessage, MessageDescriptor};

use crate::bind::{self, Binder};
use crate::proto::envoy::config::bootstrap::v3::Bootstrap;
use crate::schema::schema;
use crate::{ConfigError, Diagnostic, Locations, Path, normalize, path, semantic, walk, yaml};

/// The text of a configuration, or of a part that is merged over another.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    json: bool,
}

impl Source {
    /// A text that a person knows as `name`; it is read as JSON if the name ends in `.json`, else as YAML.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let name = name.into();
        let json = FilePath::new(&name).extension().is_some_and(|ext| ext.eq_ignore_ascii_case("json"));
        Self { name, text: text.into(), json }
    }

    /// The text of `--config-yaml`.
    pub fn inline(text: impl Into<String>) -> Self {
        Self::new("--config-yaml", text)
    }

    /// The file at `path`, of one of the kinds `.yaml`, `.yml` and `.json`; a name without a known ending is YAML.
    ///
    /// # Errors
    /// If it cannot be read, is not UTF-8, is too long, or is of a kind that adit does not read (`.pb`, `.pb_text`).
    pub fn read(path: &FilePath) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let refuse = |message: String| Diagnostic { file: Some(name.clone()), ..Diagnostic::error("", message) };
        if let Some(kind) = path.extension().and_then(|ext| ext.to_str())
            && matches!(kind, "pb" | "pb_text" | "pbtxt")
        {
            return Err(refuse(format!(
                "a configuration of the kind .{kind} is not implemented by adit: use YAML or JSON"
            )));
        }
        let octets = std::fs::metadata(path).map_err(|error| refuse(format!("cannot be read: {error}")))?.len();
        if octets > yaml::MAX_BYTES as u64 {
            return Err(refuse(format!("is longer than {} octets", yaml::MAX_BYTES)));
        }
        let bytes = std::fs::read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8".to_owned()))?;
        Ok(Self::new(name, text))
    }
}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `--allow-unknown-static-fields`: a field that Envoy does not know is a warning. A field that Envoy knows and adit
    /// does not implement stays an error.
    pub allow_unknown_fields: bool,
    /// Whether certificates, keys and other files that the configuration names must be readable, and the directories of
    /// access logs writable. Envoy checks this in both modes.
    pub check_files: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { allow_unknown_fields: false, check_files: true }
    }
}

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, every deprecated form replaced by the one that took its place.
    pub bootstrap: Bootstrap,
    /// What is worth saying although nothing is refused, in the order of the lines.
    pub warnings: Vec<Diagnostic>,
    /// Where each field was set: whoever finds more to object to resolves the finding here.
    pub locations: Locations,
}

/// Reads and checks a configuration. The sources are merged in their order, as protobuf merges messages: scalars and
/// the members of a oneof are replaced, messages merged, lists continued.
///
/// # Errors
/// All that is wrong, with file, line and path.
pub fn load(sources: &[Source], options: &LoadOptions) -> Result<Loaded, ConfigError> {
    let mut locations = Locations::default();
    let mut findings = Vec::new();
    let Some(descriptor) = schema().message("envoy.config.bootstrap.v3.Bootstrap") else {
        return Err(Diagnostic::error("", "the embedded schema is damaged").into());
    };
    let Some(message) = bind_all(sources, options, descriptor, &mut locations, &mut findings) else {
        return Err(refusal(findings, &locations));
    };
    let doubtful = Doubtful::new(&findings, &locations);
    findings.extend(doubtful.sift(walk::check(&message, &Path::root()), &locations));

    let message = normalize::message(message);
    let bootstrap: Bootstrap = match message.transcode_to() {
        Ok(bootstrap) => bootstrap,
        Err(error) => {
            findings.push(Diagnostic::error("", format!("the configuration cannot be encoded: {error}")));
            return Err(refusal(findings, &locations));
        }
    };
    findings.extend(doubtful.sift(semantic::check(&bootstrap, &message, options), &locations));
    if findings.iter().any(Diagnostic::is_error) {
        return Err(refusal(findings, &locations));
    }
    Ok(Loaded { bootstrap, warnings: in_order(findings, &locations), locations })
}

fn bind_all(
    sources: &[Source],
    options: &LoadOptions,
    descriptor: MessageDescriptor,
    locations: &mut Locations,
    findings: &mut Vec<Diagnostic>,
) -> Option<DynamicMessage> {
    let mut whole: Option<DynamicMessage> = None;
    for source in sources {
        let file = locations.add_file(&source.name);
        let (root, problems) = yaml::parse(&source.text);
        let unreadable = root.is_none() && problems.iter().any(|problem| !problem.warning);
        findings.extend(problems.into_iter().map(|problem| {
            let finding = if problem.warning {
                Diagnostic::warning("", problem.message)
            } else {
                Diagnostic::error("", problem.message)
            };
            finding.at(&source.name, problem.line)
        }));
        if unreadable {
            continue;
        }
        if let Some(message) = bind::root_problem(root.as_ref()) {
            findings.push(Diagnostic { file: Some(source.name.clone()), ..Diagnostic::error("", message) });
            continue;
        }
        let Some(root) = root else { continue };
        let mut binder = Binder {
            locations,
            file,
            file_name: &source.name,
            json: source.json,
            allow_unknown: options.allow_unknown_fields,
            problems: Vec::new(),
            hints: 0,
        };
        let bound = binder.message(&root, &descriptor, &Path::root(), whole.as_ref());
        findings.append(&mut binder.problems);
        whole = match (whole.take(), bound) {
            (Some(base), Some(over)) => Some(merge(base, &over, findings)),
            (base, over) => over.or(base),
        };
    }
    if whole.is_none() && findings.is_empty() {
        findings.push(Diagnostic::error("", "there is no configuration"));
    }
    whole
}

fn merge(mut base: DynamicMessage, over: &DynamicMessage, findings: &mut Vec<Diagnostic>) -> DynamicMessage {
    use prost::Message as _;
    // The wire format merges by its own rules, which are the ones that are wanted.
    if let Err(error) = base.merge(over.encode_to_vec().as_slice()) {
        findings.push(Diagnostic::error("", format!("the configurations cannot be merged: {error}")));
    }
    base
}

/// Places where binding failed. What is missing there is missing because of that, and not worth a finding of its own.
struct Doubtful {
    /// What could not be read: nothing at it or below it is known.
    failed: HashSet<String>,
    /// Messages around those, which lack them.
    around: HashSet<String>,
    /// Messages with a field that nobody knows: it may be one of the others, misspelt.
    misspelt: HashSet<String>,
}

impl Doubtful {
    fn new(findings: &[Diagnostic], locations: &Locations) -> Self {
        let mut doubtful = Self { failed: HashSet::new(), around: HashSet::new(), misspelt: HashSet::new() };
        for finding in findings.iter().filter(|finding| finding.is_error() && !finding.path.is_empty()) {
            let around = path::parent(&finding.path).unwrap_or_default().to_owned();
            if !locations.has(&finding.path) {
                doubtful.misspelt.insert(around.clone());
            }
            doubtful.around.insert(around);
            doubtful.failed.insert(finding.path.clone());
        }
        doubtful
    }

    fn sift(&self, findings: Vec<Diagnostic>, locations: &Locations) -> impl Iterator<Item = Diagnostic> {
        findings.into_iter().filter(|finding| {
            let path = finding.path.as_str();
            if path.is_empty() {
                return true;
            }
            let mut within = std::iter::successors(Some(path), |path| path::parent(path));
            let absent = !locations.has(path) && self.misspelt.contains(path::parent(path).unwrap_or_default());
            !(absent || self.around.contains(path) || within.any(|path| self.failed.contains(path)))
        })
    }
}

fn refusal(findings: Vec<Diagnostic>, locations: &Locations) -> ConfigError {
    ConfigError { diagnostics: in_order(findings, locations) }
}

/// With lines, by file and line, each once.
fn in_order(findings: Vec<Diagnostic>, locations: &Locations) -> Vec<Diagnostic> {
    let mut all: Vec<Diagnostic> = findings.into_iter().map(|finding| locations.resolve(finding)).collect();
    all.sort_by(|a, b| {
        let key = |finding: &Diagnostic| (finding.file.clone(), finding.line, finding.path.clone());
        key(a).cmp(&key(b))
    });
    all.dedup();
    all
}
