//! The frame of all commands: finds the one that is meant, reads its flags, and writes help and errors in the known form.
//!
//! *Source:* the texts and exit codes of the command library of the original: 255 for a command line that cannot be read, 1 for
//! what a command itself reports.

use std::collections::BTreeMap;
use std::future::Future;

use anyhow::{Context as _, Result, bail};
use pillion_core::flags::{Flag, FlagError, FlagSet, Kind, Parsed, nearest};

use crate::console;
use crate::context::Context;
use crate::local_sentry::StartSentry;

/// Exit code of a command line that cannot be read. *Source:* `os.Exit(-1)`.
const UNREADABLE: u8 = 255;

/// The exit code, or an error that is printed and gives 1.
pub(crate) type Outcome = Result<u8>;

/// One command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What follows the name in the usage line.
    pub(crate) arguments: &'static str,
    /// One sentence for the list of commands.
    pub(crate) about: &'static str,
    pub(crate) details: &'static str,
    pub(crate) examples: &'static str,
    pub(crate) flags: fn() -> FlagSet,
    pub(crate) run: fn(&Context, &Parsed) -> Outcome,
}

/// What called this program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The name in usage lines.
    pub(crate) name: String,
    pub(crate) environment: BTreeMap<String, String>,
    /// See [`Context::component_types`].
    pub(crate) component_types: fn() -> Vec<String>,
    /// Starts the sentry of this machine.
    pub(crate) sentry: StartSentry,
}

/// Flags whose default may come from `DAPR_<NAME>`. *Source:* the flags the original binds to its environment.
const FROM_ENVIRONMENT: [&str; 5] =
    ["placement-host-address", "scheduler-host-address", "network", "image-registry", "runtime-version"];

/// The flag of commands that answer programs too.
pub(crate) fn output_flag() -> Flag {
    Flag::new(Kind::Text, "output", "text", "the `format`: text or json").short('o')
}

/// Whether [`output_flag`] asks for JSON.
///
/// # Errors
/// It asks for something else.
pub(crate) fn wants_json(parsed: &Parsed) -> Result<bool> {
    match parsed.text("output") {
        "text" => Ok(false),
        "json" => Ok(true),
        other => bail!("the output format is {other:?}; expected text or json"),
    }
}

/// Flags of every command.
pub(crate) fn global_flags() -> [Flag; 2] {
    [
        Flag::new(Kind::Bool, "log-as-json", "", "write status lines as JSON objects"),
        Flag::new(
            Kind::Text,
            "runtime-path",
            "",
            "the `directory` whose .dapr holds the runtime; the home directory when not given",
        ),
    ]
}

fn root_flags() -> FlagSet {
    FlagSet::new()
        .with(Flag::new(Kind::Bool, "version", "", "print the versions of the CLI and the runtime").short('v'))
        .with_all(global_flags())
        .stop_at_positional()
}

/// Runs what the arguments ask for.
pub(crate) fn dispatch(program: &Program, commands: &[Command], arguments: Vec<String>) -> u8 {
    let help = || console::output(&root_help(program, commands));
    let root = match root_flags().parse(arguments) {
        Ok(root) => root,
        Err(FlagError::Help) => {
            help();
            return 0;
        }
        Err(error) => return unreadable(&error.to_string(), &root_usage(program, commands)),
    };
    if root.bool("version") {
        console::output(&crate::version::text(&Context::new(program, false, root.text("runtime-path"))));
        return 0;
    }
    let Some((name, rest)) = root.positional().split_first() else {
        help();
        return 0;
    };
    if name == "help" {
        return explain(program, commands, rest.first());
    }
    match commands.iter().find(|command| command.name == name) {
        Some(command) => run(program, command, rest, &root),
        None => unknown_command(program, commands, name),
    }
}

fn run(program: &Program, command: &Command, arguments: &[String], root: &Parsed) -> u8 {
    let flags = (command.flags)().with_all(global_flags());
    let mut parsed = match flags.parse(arguments.iter().cloned()) {
        Ok(parsed) => parsed,
        Err(FlagError::Help) => {
            console::output(&command_help(program, command));
            return 0;
        }
        Err(error) => return unreadable(&error.to_string(), &command_usage(program, command)),
    };
    for name in FROM_ENVIRONMENT.iter().filter(|name| flags.flags().iter().any(|flag| flag.name == **name)) {
        let variable = format!("DAPR_{}", name.to_uppercase().replace('-', "_"));
        if let Some(Err(error)) = program.environment.get(&variable).map(|value| parsed.set_default(name, value)) {
            return unreadable(&format!("{variable}: {error}"), &command_usage(program, command));
        }
    }
    for warning in parsed.warnings() {
        console::error(&format!("{warning}\n"));
    }
    let runtime_path =
        if parsed.given("runtime-path") { parsed.text("runtime-path") } else { root.text("runtime-path") };
    let context = Context::new(program, parsed.bool("log-as-json") || root.bool("log-as-json"), runtime_path);
    match (command.run)(&context, &parsed) {
        Ok(code) => code,
        Err(error) => {
            context.console.failure(&format!("{error:#}"));
            1
        }
    }
}

/// *Source:* an error that the parser finds is printed before the usage and again after it.
fn unreadable(error: &str, usage: &str) -> u8 {
    console::error(&format!("Error: {error}\n{usage}\n"));
    console::output(&format!("{error}\n"));
    UNREADABLE
}

fn unknown_command(program: &Program, commands: &[Command], name: &str) -> u8 {
    let error = format!("unknown command {name:?} for {:?}", program.name);
    let near = nearest(name, commands.iter().map(|command| command.name));
    let suggestion = near.map(|near| format!("\nDid you mean this?\n\t{near}\n\n")).unwrap_or_default();
    console::error(&format!("Error: {error}\n{suggestion}Run '{} --help' for usage.\n", program.name));
    UNREADABLE
}

fn explain(program: &Program, commands: &[Command], name: Option<&String>) -> u8 {
    let Some(name) = name else {
        console::output(&root_help(program, commands));
        return 0;
    };
    match commands.iter().find(|command| command.name == name) {
        Some(command) => {
            console::output(&command_help(program, command));
            0
        }
        None => unknown_command(program, commands, name),
    }
}

const BANNER: &str = "
         _ _ _ _
   _ __ (_) | (_) ___  _ __
  | '_ \\| | | | |/ _ \\| '_ \\
  | |_) | | | | | (_) | | | |
  | .__/|_|_|_|_|\\___/|_| |_|
  |_|
===============================
Distributed Application Runtime
";

fn root_help(program: &Program, commands: &[Command]) -> String {
    format!("{BANNER}\n{}", root_usage(program, commands))
}

fn root_usage(program: &Program, commands: &[Command]) -> String {
    let name = &program.name;
    let width = commands.iter().map(|command| command.name.len()).max().unwrap_or(0);
    let list: String =
        commands.iter().map(|command| format!("  {:width$}   {}\n", command.name, command.about)).collect();
    format!(
        "Usage:\n  {name} [command]\n\nAvailable Commands:\n{list}\nFlags:\n{}\n\
         Use \"{name} [command] --help\" for more information about a command.\n",
        root_flags().with(help_flag()).usage()
    )
}

/// For the help texts only: the parser knows this flag by itself.
fn help_flag() -> Flag {
    Flag::new(Kind::Bool, "help", "", "explain this command").short('h')
}

fn command_help(program: &Program, command: &Command) -> String {
    let mut text = format!("{}\n", command.about);
    if !command.details.is_empty() {
        text += &format!("\n{}\n", command.details);
    }
    text + "\n" + &command_usage(program, command)
}

fn command_usage(program: &Program, command: &Command) -> String {
    let name = &program.name;
    let mut text = format!("Usage:\n  {name} {} {}\n", command.name, command.arguments);
    if !command.examples.is_empty() {
        text += &format!("\nExamples:\n{}\n", command.examples.replace("  dapr ", &format!("  {name} ")));
    }
    text += &format!("\nFlags:\n{}", (command.flags)().with(help_flag()).usage());
    text + "\nGlobal Flags:\n" + &FlagSet::new().with_all(global_flags()).usage()
}

/// Runs a future, and the tasks it starts, on this thread. Children that are tied to the thread that starts them live with the command.
pub(crate) fn block_on_local<F: Future<Output = Outcome>>(future: F) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, future);
    runtime.shutdown_background(); // a reader that waits for standard input must not hold up the end
    outcome
}
