//! `cargo xtask codegen [--check]`: turns `base/proto/proto/**.proto` into the checked-in `base/proto/src/gen/`.
//!
//! One Rust file per protobuf package, so that the compiler and the reader see packages apart, plus the serialized
//! descriptors. No `protoc` is needed: `protox` parses in Rust. Runs only on demand; building `pillion-proto` never does.
//!
//! Invariant: the output is a pure function of the `.proto` files and the crate versions in `Cargo.lock`; `--check`
//! fails when the checked-in files differ from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost_build::Module;
use prost_types::FileDescriptorSet;

use crate::metadata;

/// One protobuf package and the place of its Rust code.
struct Package {
    /// Name in the `.proto` files; empty for the durable task files that declare no package.
    proto: &'static str,
    /// Path under which `pillion_proto` exports it, used by the code of all other packages.
    rust: &'static str,
    /// File name under `src/gen`, without `.rs`.
    file: &'static str,
}

#[rustfmt::skip] // a table
const PACKAGES: &[Package] = &[
    Package { proto: "dapr.proto.common.v1", rust: "crate::common::v1", file: "common_v1" },
    Package { proto: "dapr.proto.components.v1", rust: "crate::components::v1", file: "components_v1" },
    Package { proto: "dapr.proto.internals.v1", rust: "crate::internals::v1", file: "internals_v1" },
    Package { proto: "dapr.proto.operator.v1", rust: "crate::operator::v1", file: "operator_v1" },
    Package { proto: "dapr.proto.placement.v1", rust: "crate::placement::v1", file: "placement_v1" },
    Package { proto: "dapr.proto.runtime.v1", rust: "crate::runtime::v1", file: "runtime_v1" },
    Package { proto: "dapr.proto.scheduler.v1", rust: "crate::scheduler::v1", file: "scheduler_v1" },
    Package { proto: "dapr.proto.sentry.v1", rust: "crate::sentry::v1", file: "sentry_v1" },
    Package { proto: "dapr.proto.workflows.v1", rust: "crate::workflows::v1", file: "workflows_v1" },
    Package { proto: "", rust: "crate::durabletask", file: "durabletask" },
    Package { proto: "durabletask.protos.backend.v1", rust: "crate::durabletask::backend", file: "durabletask_backend" },
    Package { proto: "api", rust: "crate::etcd_cron::api", file: "etcd_cron_api" },
    Package { proto: "queue", rust: "crate::etcd_cron::queue", file: "etcd_cron_queue" },
    Package { proto: "stored", rust: "crate::etcd_cron::stored", file: "etcd_cron_stored" },
    Package { proto: "cron.stored", rust: "crate::etcd_cron::cron_stored", file: "etcd_cron_cron_stored" },
    Package { proto: "google.rpc", rust: "crate::google::rpc", file: "google_rpc" },
];

/// Runs the command. `args` are those after `codegen`; the only one known is `--check`, which writes nothing and
/// fails when a checked-in file is missing, stale or not generated any more.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [one] if one == "--check" => true,
        _ => bail!("usage: cargo xtask codegen [--check]"),
    };
    let crate_dir = metadata::root()?.join("base/proto");
    let wanted = generate(&crate_dir.join("proto"))?;
    let out = crate_dir.join("src/gen");
    if check { compare(&out, &wanted) } else { write(&out, &wanted) }
}

/// Every output file by name, generated from the `.proto` files below `root`.
fn generate(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let files = proto_files(root)?;
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(false).include_imports(true).open_files(&files)?;
    let set = compiler.file_descriptor_set();
    check_packages(&set)?;

    let mut out = BTreeMap::new();
    for package in PACKAGES {
        let code = generate_package(package, &set)?;
        out.insert(format!("{}.rs", package.file), code.into_bytes());
    }
    out.insert("mod.rs".to_owned(), module_file().into_bytes());
    out.insert("descriptors.bin".to_owned(), compiler.encode_file_descriptor_set());
    Ok(out)
}

/// All `.proto` files below `root`, sorted, so that the output does not depend on the file system's order.
fn proto_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A package that no row of [`PACKAGES`] names would silently get no code.
fn check_packages(set: &FileDescriptorSet) -> Result<()> {
    for file in &set.file {
        let known = PACKAGES.iter().any(|package| package.proto == file.package());
        if !known && file.package() != "google.protobuf" {
            bail!("{}: package {:?} has no row in PACKAGES of xtask/src/codegen.rs", file.name(), file.package());
        }
    }
    Ok(())
}

/// Code of one package. All other packages are external paths to it, so each file stands alone.
fn generate_package(package: &Package, set: &FileDescriptorSet) -> Result<String> {
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.enable_type_names();
    config.extern_path(".google.protobuf.Any", "crate::google::protobuf::Any");
    for other in PACKAGES.iter().filter(|other| other.proto != package.proto) {
        for (proto, rust) in external_paths(other, set) {
            config.extern_path(proto, rust);
        }
    }
    config.service_generator(
        tonic_prost_build::configure().build_transport(true).generate_default_stubs(true).service_generator(),
    );

    let module = Module::from_parts([package.file]);
    let mut requests = Vec::new();
    for file in &set.file {
        let mut file = file.clone();
        if file.package() != package.proto {
            file.service.clear(); // kept only for the shapes of its messages
        }
        requests.push((module.clone(), file));
    }
    let mut modules = config.generate(requests).with_context(|| format!("package {:?}", package.proto))?;
    let code = modules.remove(&module).with_context(|| format!("package {:?} is empty", package.proto))?;
    Ok(name_unimplemented_calls(&code, package.proto, set))
}

/// Where the code of `package` lives, as pairs of protobuf and Rust path. The package without a name needs one pair
/// for each of its types, because the path "." would swallow everything.
fn external_paths(package: &Package, set: &FileDescriptorSet) -> Vec<(String, String)> {
    if !package.proto.is_empty() {
        return vec![(format!(".{}", package.proto), package.rust.to_owned())];
    }
    let files = set.file.iter().filter(|file| file.package().is_empty());
    let names = files.flat_map(|file| {
        let messages = file.message_type.iter().map(|message| message.name());
        messages.chain(file.enum_type.iter().map(|one| one.name()))
    });
    names.map(|name| (format!(".{name}"), format!("{}::{name}", package.rust))).collect()
}

/// The default body of a server's method answers `Not yet implemented`; say which call that is instead.
fn name_unimplemented_calls(code: &str, package: &str, set: &FileDescriptorSet) -> String {
    let names = method_names(package, set);
    let mut service = String::new();
    let mut method = String::new();
    let mut out = String::with_capacity(code.len());
    for line in code.lines() {
        let trimmed = line.trim_start();
        if let Some(rest) = trimmed.strip_prefix("pub trait ") {
            service = word(rest).to_lowercase();
        } else if let Some(rest) = trimmed.strip_prefix("async fn ") {
            method = word(rest).replace('_', "");
        }
        let call = names.get(&(service.clone(), method.clone()));
        match call.filter(|_| trimmed.contains("\"Not yet implemented\"")) {
            Some(call) => {
                let text = format!("\"{call} is not implemented\"");
                out.push_str(&line.replace("\"Not yet implemented\"", &text));
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// `package.Service/Method` by the names of service and method, in lower case without separators.
fn method_names(package: &str, set: &FileDescriptorSet) -> BTreeMap<(String, String), String> {
    let mut names = BTreeMap::new();
    for file in set.file.iter().filter(|file| file.package() == package) {
        for service in &file.service {
            for method in &service.method {
                let dot = if package.is_empty() { "" } else { "." };
                let path = format!("{package}{dot}{}/{}", service.name(), method.name());
                names.insert((service.name().to_lowercase(), method.name().to_lowercase()), path);
            }
        }
    }
    names
}

/// The identifier that `text` starts with.
fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn module_file() -> String {
    let mut out = String::from("// Generated by `cargo xtask codegen` from base/proto/proto; do not edit.\n\n");
    for package in PACKAGES {
        out.push_str(&format!("pub mod {};\n", package.file));
    }
    out
}

fn write(out: &Path, wanted: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    fs::create_dir_all(out)?;
    for name in surplus(out, wanted)? {
        fs::remove_file(out.join(&name)).with_context(|| format!("removing {name}"))?;
    }
    let mut changed = 0;
    for (name, content) in wanted {
        let path = out.join(name);
        if fs::read(&path).ok().as_ref() != Some(content) {
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            changed += 1;
        }
    }
    println!("codegen: {} files, {changed} changed", wanted.len());
    Ok(())
}

fn compare(out: &Path, wanted: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, content) in wanted {
        match fs::read(out.join(name)) {
            Ok(found) if found == *content => {}
            Ok(_) => wrong.push(format!("{name}: differs from what the .proto files give")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    wrong.extend(surplus(out, wanted)?.into_iter().map(|name| format!("{name}: is not generated any more")));
    if wrong.is_empty() {
        println!("codegen: {} files are up to date", wanted.len());
        return Ok(());
    }
    bail!("base/proto/src/gen is stale, run `cargo xtask codegen`:\n  {}", wrong.join("\n  "))
}

/// Names in the output directory that nothing generates.
fn surplus(out: &Path, wanted: &BTreeMap<String, Vec<u8>>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(out).with_context(|| format!("reading {}", out.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !wanted.contains_key(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
