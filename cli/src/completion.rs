//! `completion`: scripts with which shells complete commands and flags.

use anyhow::bail;
use pillion_core::flags::{Flag, FlagSet, Parsed};

use crate::command::{Command, Outcome};
use crate::console;
use crate::context::Context;

pub(crate) const COMMAND: Command = Command {
    name: "completion",
    arguments: "bash|zsh|fish|powershell",
    about: "Print a completion script for a shell",
    details: "Load it where the shell starts, for example: source <(dapr completion bash)",
    examples: "  dapr completion bash > /etc/bash_completion.d/dapr\n  dapr completion zsh > \"${fpath[1]}/_dapr\"\n  \
               dapr completion fish > ~/.config/fish/completions/dapr.fish",
    flags: FlagSet::new,
    run,
};

const SHELLS: [&str; 4] = ["bash", "zsh", "fish", "powershell"];

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let [shell] = parsed.positional() else {
        bail!("expected one shell: {}", SHELLS.join(", "));
    };
    let script = match shell.as_str() {
        "bash" => bash(&context.program),
        "zsh" => zsh(&context.program),
        "fish" => fish(&context.program),
        "powershell" => powershell(&context.program),
        other => bail!("no completion for the shell {other:?}; expected {}", SHELLS.join(", ")),
    };
    console::output(&script);
    Ok(0)
}

fn visible(command: &Command) -> Vec<Flag> {
    (command.flags)()
        .flags()
        .iter()
        .filter(|flag| !flag.hidden)
        .cloned()
        .chain(crate::command::global_flags())
        .collect()
}

fn names() -> String {
    crate::COMMANDS.map(|command| command.name).join(" ")
}

/// The words a command may be followed by: its flags, and for some a fixed choice.
fn words(command: &Command) -> String {
    let flags = visible(command).iter().map(|flag| format!("--{}", flag.name)).collect::<Vec<_>>().join(" ");
    if command.name == COMMAND.name { format!("{} {flags}", SHELLS.join(" ")) } else { flags }
}

fn bash(program: &str) -> String {
    let cases: String = crate::COMMANDS
        .iter()
        .map(|command| format!("    {}) words=\"{}\" ;;\n", command.name, words(command)))
        .collect();
    format!(
        "# bash completion for {program}\n\
         _{program}_completion() {{\n\
         \x20 local words\n\
         \x20 case ${{COMP_CWORD}}:${{COMP_WORDS[1]}} in\n\
         \x20   1:*) words=\"{} help --version --help\" ;;\n\
         \x20   *) words= ;;\n\
         \x20 esac\n\
         \x20 [ \"$COMP_CWORD\" -eq 1 ] || case ${{COMP_WORDS[1]}} in\n{cases}\
         \x20 esac\n\
         \x20 COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n\
         }}\n\
         complete -o default -F _{program}_completion {program}\n",
        names()
    )
}

fn zsh(program: &str) -> String {
    let list: String =
        crate::COMMANDS.iter().map(|command| format!("    '{}:{}'\n", command.name, plain(command.about))).collect();
    let mut cases = String::new();
    for command in &crate::COMMANDS {
        let flags: String = visible(command)
            .iter()
            .map(|flag| {
                let value = if flag.kind == pillion_core::flags::Kind::Bool { "" } else { ":value:_files" };
                format!(" '--{}[{}]{value}'", flag.name, plain(flag.help))
            })
            .collect();
        let rest = if command.name == COMMAND.name {
            format!(" '*:shell:({})'", SHELLS.join(" "))
        } else {
            " '*:file:_files'".to_owned()
        };
        cases += &format!("    {}) _arguments{flags}{rest} ;;\n", command.name);
    }
    format!(
        "#compdef {program}\n\
         _{program}() {{\n\
         \x20 local -a commands\n\
         \x20 commands=(\n{list}  )\n\
         \x20 if (( CURRENT == 2 )); then\n\
         \x20   _describe command commands\n\
         \x20   return\n\
         \x20 fi\n\
         \x20 local command=$words[2]\n\
         \x20 shift words\n\
         \x20 (( CURRENT-- ))\n\
         \x20 case $command in\n{cases}  esac\n\
         }}\n\
         if [ \"$funcstack[1]\" = _{program} ]; then _{program} \"$@\"; else compdef _{program} {program}; fi\n"
    )
}

fn fish(program: &str) -> String {
    let mut script = format!("# fish completion for {program}\n");
    for command in &crate::COMMANDS {
        script += &format!(
            "complete -c {program} -n __fish_use_subcommand -f -a {} -d '{}'\n",
            command.name,
            plain(command.about)
        );
    }
    for command in &crate::COMMANDS {
        let inside = format!("'__fish_seen_subcommand_from {}'", command.name);
        for flag in visible(command) {
            let short = flag.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
            let value = if flag.kind == pillion_core::flags::Kind::Bool { "" } else { " -r" };
            script += &format!(
                "complete -c {program} -n {inside} -l {}{short}{value} -d '{}'\n",
                flag.name,
                plain(flag.help)
            );
        }
    }
    script
        + &format!(
            "complete -c {program} -n '__fish_seen_subcommand_from {}' -f -a '{}'\n",
            COMMAND.name,
            SHELLS.join(" ")
        )
}

fn powershell(program: &str) -> String {
    let table: String = crate::COMMANDS
        .iter()
        .map(|command| {
            let words: Vec<String> = words(command).split(' ').map(|word| format!("'{word}'")).collect();
            format!("    '{}' = @({})\n", command.name, words.join(", "))
        })
        .collect();
    format!(
        "# PowerShell completion for {program}\n\
         Register-ArgumentCompleter -Native -CommandName '{program}' -ScriptBlock {{\n\
         \x20 param($wordToComplete, $commandAst, $cursorPosition)\n\
         \x20 $commands = [ordered]@{{\n{table}  }}\n\
         \x20 $given = @($commandAst.CommandElements | ForEach-Object {{ $_.ToString() }})\n\
         \x20 $words = if ($given.Count -lt 2 -or ($given.Count -eq 2 -and $wordToComplete)) {{ $commands.Keys }} else {{ $commands[$given[1]] }}\n\
         \x20 $words | Where-Object {{ $_ -like \"$wordToComplete*\" }} | ForEach-Object {{\n\
         \x20   [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)\n\
         \x20 }}\n\
         }}\n"
    )
}

/// Without what has a meaning inside quotes and brackets of these scripts.
fn plain(text: &str) -> String {
    text.replace(['`', '\'', '[', ']'], "").replace(':', " -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_knows_every_command_and_flag() {
        for script in [bash("dapr"), zsh("dapr"), fish("dapr"), powershell("dapr")] {
            for word in ["run", "uninstall", "build-info", "resources-path", "publish-app-id", "log-as-json"] {
                assert!(script.contains(word), "{word} is missing in {script}");
            }
            assert!(!script.contains("components-path"), "hidden flags stay hidden");
        }
    }

    #[test]
    fn the_bash_script_is_one() {
        let mut shell = std::process::Command::new("bash");
        let Ok(status) = shell.args(["-c", &format!("{}\nCOMP_WORDS=(dapr run --app-i) COMP_CWORD=2; _dapr_completion; [ \"${{COMPREPLY[*]}}\" = --app-id ]", bash("dapr"))]).status()
        else {
            return; // no bash here
        };
        assert!(status.success());
    }
}
