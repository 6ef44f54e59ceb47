//! A checked configuration becomes live objects: building, running, draining and ending the process.
//!
//! Deliberately unknown here: how anything is parsed from bytes, routed or relayed. This crate only puts the others
//! together.
//!
//! Read first: [`run`], then `build.rs` (plans), `serve.rs` (the process) and `factories.rs` (where the crates meet).
//!
//! Floor F4.

mod admin;
mod build;
mod control;
mod demo;
mod factories;
mod internal;
mod lifecycle;
mod logging;
mod memory;
mod options;
mod own_stats;
mod runtime_layers;
mod serve;
mod server_stats;
mod signals;
mod transports;
mod views;

pub use options::{DrainStrategy, LogLevel, Mode, Options};

use adit_config::{Diagnostic, LoadOptions, Loaded, Source};

use crate::logging::LogControl;

/// Runs the process as its options say; the result is its exit code.
pub fn run(options: Options) -> u8 {
    let log = match LogControl::install(options.log_level, &options.component_log_level, options.log_path.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("adit: --log-path: {error}");
            return 1;
        }
    };
    for flag in &options.unhonoured {
        tracing::warn!("{flag} has no effect");
    }
    let workers =
        options.concurrency.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let plans = load(&options).and_then(|loaded| build::build(loaded, &options, workers));
    let plans = match plans {
        Ok(plans) => plans,
        Err(errors) => {
            eprint!("{}", adit_config::Report(&errors));
            return 1;
        }
    };
    if options.mode == Mode::Validate {
        println!("configuration '{}' OK", config_name(&options));
        return 0;
    }
    match serve::serve(plans, options, workers, log) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("adit: {error:#}");
            1
        }
    }
}

fn config_name(options: &Options) -> String {
    options.config_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

/// Reads and checks the configuration; warnings go to the log.
fn load(options: &Options) -> Result<Loaded, Vec<Diagnostic>> {
    let mut sources = Vec::new();
    if options.demonstration {
        sources.push(Source::new("(demonstration)", demo::CONFIG));
    }
    if let Some(path) = &options.config_path {
        sources.push(Source::read(path).map_err(|error| vec![error])?);
    }
    if let Some(text) = &options.config_yaml {
        sources.push(Source::inline(text.clone()));
    }
    let load_options =
        LoadOptions { allow_unknown_fields: options.allow_unknown_static_fields, ..LoadOptions::default() };
    let loaded = adit_config::load(&sources, &load_options).map_err(|error| error.diagnostics)?;
    for warning in &loaded.warnings {
        if !options.skip_deprecated_logs || !warning.message.contains("deprecated") {
            tracing::warn!("{warning}");
        }
    }
    Ok(loaded)
}
