//! The definition of the command line, and what is made from it.

use std::fs;

use clap::CommandFactory as _;

use super::*;

fn read(line: &str) -> Result<Cli, clap::Error> {
    Cli::read(std::iter::once("unifiedpush-gateway").chain(line.split_whitespace()))
}

fn dispatched(line: &str) -> Result<String, CliError> {
    let mut out = Vec::new();
    let home = |name: &str| (name == "HOME").then(|| OsString::from("/nonexistent"));
    dispatch(read(line).unwrap(), &mut out, home)?;
    Ok(String::from_utf8(out).unwrap())
}

/// The words of every command of the tree, parents included.
fn all_commands() -> Vec<Vec<String>> {
    fn collect(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
        all.push(path.to_vec());
        for child in command.get_subcommands() {
            collect(child, &[path, &[child.get_name().to_owned()]].concat(), all);
        }
    }
    let mut all = Vec::new();
    collect(&Cli::command(), &[], &mut all);
    assert!(all.len() >= 15, "{all:?}");
    all
}

#[test]
fn the_definition_has_no_contradictions() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_explains_itself() {
    for path in all_commands() {
        let path = path.join(" ");
        let help = read(&format!("{path} --help")).unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{path}");
        assert_eq!(help.exit_code(), 0);
        let text = help.to_string();
        assert!(text.contains("--config") && text.contains("--state-dir"), "{path}: {text}");
        let version = read(&format!("{path} --version")).unwrap_err();
        assert_eq!(version.kind(), ErrorKind::DisplayVersion, "{path}");
        assert!(version.to_string().contains(env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn global_options_stand_before_or_after_every_command() {
    for command in [
        "run",
        "device add phone",
        "device list",
        "device rotate x",
        "device remove x",
        "registration add x y",
        "registration list",
        "registration remove x",
        "listen",
        "ca",
        "check",
        "man",
        "completions bash",
    ] {
        let globals = "--config c.toml --state-dir dir";
        let (first, rest) = command.split_once(' ').unwrap_or((command, ""));
        let orders = [
            format!("{globals} {command}"),
            format!("{command} {globals}"),
            format!("{first} {globals} {rest}"),
        ];
        for line in orders {
            let global = read(&line).unwrap_or_else(|error| panic!("{line}: {error}")).global;
            assert_eq!(global.config, Some("c.toml".into()), "{line}");
            assert_eq!(global.state_dir, Some("dir".into()), "{line}");
        }
    }
}

#[test]
fn run_needs_no_word_and_takes_its_listeners_on_both_sides() {
    let both = ("127.0.0.1:1".parse().ok(), "127.0.0.1:2".parse().ok());
    for line in [
        "--public 127.0.0.1:1 --mqtt 127.0.0.1:2",
        "run --public 127.0.0.1:1 --mqtt 127.0.0.1:2",
        "--public 127.0.0.1:1 --mqtt 127.0.0.1:2 run",
        "--public 127.0.0.1:1 run --mqtt 127.0.0.1:2",
        "--public 127.0.0.1:9 --mqtt 127.0.0.1:2 run --public 127.0.0.1:1",
    ] {
        let cli = read(line).unwrap();
        assert_eq!((cli.run.public, cli.run.mqtt), both, "{line}");
    }
}

#[test]
fn an_option_that_would_be_ignored_is_refused() {
    for line in ["--public 127.0.0.1:1 device list", "--mqtt 127.0.0.1:1 listen", "--mqtt 127.0.0.1:1 check"]
    {
        let error = read(line).unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::ArgumentConflict, 2), "{line}");
    }
    // Its own option is another matter.
    assert!(read("listen --mqtt push.example.org").is_ok());
}

/// base64url has a hyphen, and what the gateway prints must be what its command line takes.
#[test]
fn a_token_or_a_secret_may_begin_with_a_hyphen() {
    for given in ["-JtAB2", "-hAB2", "-VAB2", "--AB2", "--json", "-"] {
        let Some(Command::Registration(RegistrationCommand::Remove { endpoint })) =
            read(&format!("registration remove {given}"))
                .unwrap_or_else(|error| panic!("{given}: {error}"))
                .command
        else {
            panic!("{given}");
        };
        assert_eq!(endpoint, given);
        let Some(Command::Listen(args)) =
            read(&format!("listen --device x --secret {given} --json")).unwrap().command
        else {
            panic!("{given}");
        };
        assert_eq!((args.secret.as_deref(), args.json), (Some(given), true));
    }
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "--bogus",
        "fly",
        "device",
        "--public nowhere",
        "listen --device x",
        "listen --secret x",
        "listen --count 0",
    ] {
        assert_eq!(read(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn the_manual_page_has_every_command_and_option() {
    let page = dispatched("man").unwrap();
    assert!(page.contains(".TH unifiedpush-gateway"), "{page}");
    // Roff writes a hyphen as \-.
    let plain = page.replace("\\-", "-");
    let root = Cli::command();
    for path in all_commands() {
        let command = path.iter().fold(&root, |parent, name| parent.find_subcommand(name).unwrap());
        let hidden = command.is_hide_set();
        if !command.has_subcommands() {
            let heading = path.join(" ").to_uppercase();
            let headings = [format!("\n.SH {heading}\n"), format!("\n.SH \"{heading}\"\n")];
            assert_eq!(headings.iter().any(|heading| plain.contains(heading)), !hidden, "{path:?}");
        }
        for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(hidden || plain.contains(&format!("--{option}")), "{path:?} --{option}");
        }
    }
    assert!(plain.contains("EXIT STATUS"));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = dispatched(&format!("completions {shell}")).unwrap();
        assert!(script.contains("registration") && script.contains("state-dir"), "{shell}");
    }
}

#[test]
fn check_says_ok_or_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        dispatched(&format!("check --config {}", file.display()))
    };
    assert_eq!(dispatched("check").unwrap(), "ok\n");
    assert_eq!(check("[public]\nmissing_ttl = 'refuse'").unwrap(), "ok\n");
    for (text, what) in [
        ("[public]\nmissing_ttl = 'maybe'", "missing_ttl"),
        ("log = 'x y'", "log"),
        (
            "[transport.mqtt.tls]\nlisten = '[::]:8883'\ncertificate = 'missing.pem'\nkey = 'missing.pem'",
            "missing.pem",
        ),
    ] {
        let error = check(text).unwrap_err();
        assert_eq!(error.exit_code(), 78, "{text}");
        assert!(error.to_string().contains("gateway.toml"), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn check_reads_the_certificate_and_its_key() {
    for table in ["public.tls", "transport.mqtt.tls"] {
        let dir = tempfile::tempdir().unwrap();
        let (file, pem) = (dir.path().join("gateway.toml"), dir.path().join("both.pem"));
        let settings = format!(
            "public.url = 'https://push.example.org'\n[{table}]\nlisten = '[::]:8883'\ncertificate = 'both.pem'\nkey = 'both.pem'"
        );
        fs::write(&file, settings).unwrap();
        let check = |text: &str| {
            fs::write(&pem, text).unwrap();
            dispatched(&format!("check --config {}", file.display()))
        };
        let certificate = "-----BEGIN CERTIFICATE-----\n";
        let named = |key: &str| format!("{table}.{key}: ");
        assert!(check("").unwrap_err().to_string().contains(&named("certificate")));
        assert!(check(certificate).unwrap_err().to_string().contains(&named("key")));
        assert_eq!(check(&format!("{certificate}-----BEGIN EC PRIVATE KEY-----\n")).unwrap(), "ok\n");
        // The gateway itself looks too, before it binds anything.
        fs::remove_file(&pem).unwrap();
        let error = dispatched(&format!("run --config {}", file.display())).unwrap_err();
        assert_eq!(error.exit_code(), 78, "{error}");
    }
}
