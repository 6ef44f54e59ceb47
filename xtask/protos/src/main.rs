//! Generates what adit-config needs to know of Envoy's schema, from the `.proto` files that the `envoy-types` package
//! ships (Apache-2.0; used as data, never compiled or linked):
//!
//! - `descriptor.bin`: the descriptor set with its options, so that the validation rules and the deprecation marks survive;
//! - `gen/`: message types by prost;
//! - `known_types.txt`: the name of every message that Envoy could be given as an `@type`, so that "unknown" and "known
//!   but not implemented" can be told apart.
//!
//! Run as `cargo xtask protos [--check]`. It is a workspace of its own to keep its dependencies out of the product's.

mod patch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

const ROOTS: &str = include_str!("roots.txt");

/// Packages that only annotate: nothing in them is a message of a configuration, so no Rust is made of them.
const ANNOTATIONS: [&str; 3] =
    ["envoy.annotations", "udpa.annotations", "xds.annotations.v3"];

fn main() -> Result<()> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument {other}: expected nothing or --check"),
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = Protos::find(here)?;
    let made = generate(&protos)?;
    let target = here.join("../../crates/adit-config/src");
    if check { compare(&target, &made) } else { write(&target, &made) }
}

/// Where the `.proto` files lie.
struct Protos {
    includes: Vec<PathBuf>,
}

impl Protos {
    fn find(manifest_dir: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--all-features", "--locked", "--manifest-path"])
            .arg(manifest_dir.join("Cargo.toml"))
            .output()
            .context("cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let manifest = metadata["packages"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|package| package["name"] == "envoy-types")
            .and_then(|package| package["manifest_path"].as_str())
            .context("envoy-types is not among the packages")?;
        let root = Path::new(manifest).parent().context("no directory")?.join("proto");
        let mut includes = Vec::new();
        for entry in std::fs::read_dir(&root).with_context(|| root.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                // cel-spec keeps its tree one level further down.
                includes.push(if path.ends_with("cel-spec") { path.join("proto") } else { path });
            }
        }
        includes.sort();
        Ok(Self { includes })
    }

    /// The encoded descriptor set of `files` and all they import, imports first.
    fn compile(&self, files: &[String]) -> Result<Vec<u8>> {
        let mut sources = ChainFileResolver::new();
        sources.add(Patched { includes: self.includes.clone() });
        sources.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(sources);
        compiler.include_imports(true).include_source_info(false).open_files(files)?;
        // The encoded form keeps extension options; `file_descriptor_set` would drop them.
        Ok(compiler.encode_file_descriptor_set())
    }

    /// Every file of Envoy's own tree.
    fn all_of_envoy(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for include in &self.includes {
            let mut queue = vec![include.join("envoy")];
            while let Some(dir) = queue.pop() {
                let Ok(entries) = std::fs::read_dir(&dir) else { continue };
                for entry in entries {
                    let path = entry?.path();
                    if path.is_dir() {
                        queue.push(path);
                    } else if path.extension().is_some_and(|ext| ext == "proto") {
                        found.push(path.strip_prefix(include)?.to_string_lossy().into_owned());
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Reads files from the include directories and applies [`patch::source`].
struct Patched {
    includes: Vec<PathBuf>,
}

impl FileResolver for Patched {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        for include in &self.includes {
            if let Ok(text) = std::fs::read_to_string(include.join(name)) {
                return File::from_source(name, &patch::source(name, text));
            }
        }
        Err(protox::Error::file_not_found(name))
    }
}

/// Relative path below adit-config's `src` to content.
type Made = BTreeMap<PathBuf, Vec<u8>>;

fn generate(protos: &Protos) -> Result<Made> {
    let roots: Vec<String> =
        ROOTS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect();
    let encoded = protos.compile(&roots)?;
    let mut made = Made::new();
    let set = FileDescriptorSet::decode(encoded.as_slice())?;
    made.insert("descriptor.bin".into(), encoded);
    made.insert("known_types.txt".into(), known_types(protos)?.into_bytes());
    rust(set, &mut made)?;
    Ok(made)
}

fn rust(mut set: FileDescriptorSet, made: &mut Made) -> Result<()> {
    set.file.retain(|file| !ANNOTATIONS.contains(&file.package()));
    let scratch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/protos");
    let scratch = std::env::var_os("CARGO_TARGET_DIR").map_or(scratch, |dir| PathBuf::from(dir).join("protos"));
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    std::fs::create_dir_all(&scratch)?;
    prost_build::Config::new()
        .out_dir(&scratch)
        .include_file("mod.rs")
        .btree_map(["."])
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .compile_fds(set)?;
    for entry in std::fs::read_dir(&scratch)? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?;
        made.insert(Path::new("gen").join(name), std::fs::read(&path)?);
    }
    Ok(())
}

fn known_types(protos: &Protos) -> Result<String> {
    fn collect(prefix: &str, message: &DescriptorProto, names: &mut BTreeSet<String>) {
        let name = format!("{prefix}.{}", message.name());
        for nested in &message.nested_type {
            if !nested.options.as_ref().is_some_and(|options| options.map_entry()) {
                collect(&name, nested, names);
            }
        }
        names.insert(name);
    }
    let mut names = BTreeSet::new();
    let sources = Patched { includes: protos.includes.clone() };
    for name in protos.all_of_envoy()? {
        // Parsed only, nothing resolved: the names are all that is wanted.
        let file = sources.open_file(&name)?;
        let file = file.file_descriptor_proto();
        if file.package().starts_with("envoy.extensions.") || file.package().starts_with("envoy.config.") {
            for message in &file.message_type {
                collect(file.package(), message, &mut names);
            }
        }
    }
    Ok(names.into_iter().map(|name| name + "\n").collect())
}

fn write(target: &Path, made: &Made) -> Result<()> {
    let generated = target.join("gen");
    if generated.exists() {
        std::fs::remove_dir_all(&generated)?;
    }
    std::fs::create_dir_all(&generated)?;
    for (name, content) in made {
        std::fs::write(target.join(name), content)?;
    }
    println!("wrote {} files below {}", made.len(), target.display());
    Ok(())
}

fn compare(target: &Path, made: &Made) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, content) in made {
        if std::fs::read(target.join(name)).ok().as_ref() != Some(content) {
            wrong.push(name.clone());
        }
    }
    for entry in std::fs::read_dir(target.join("gen"))? {
        let name = Path::new("gen").join(entry?.file_name());
        if !made.contains_key(&name) {
            wrong.push(name);
        }
    }
    if wrong.is_empty() {
        println!("{} generated files are up to date", made.len());
        return Ok(());
    }
    bail!("these files differ from what `cargo xtask protos` makes: {wrong:?}")
}
