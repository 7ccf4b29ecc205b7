//! The manual page: one page for all subcommands, made from the definition that also parses.

use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::Cli;

/// The program's name.
pub(super) const NAME: &str = "unifiedpush-gateway";

/// The whole page as roff.
pub(super) fn page() -> io::Result<Vec<u8>> {
    // The generated `help` subcommands would double every section.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let man = Man::new(root.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    subcommands(&root, &mut page)?;
    closing().to_writer(&mut page)?;
    Ok(page)
}

/// A section for each command that can be given, in the order of the definition.
fn subcommands(parent: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        if command.has_subcommands() {
            subcommands(command, page)?;
            continue;
        }
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        let mut heading = Roff::default();
        heading.control("SH", [name.strip_prefix(NAME).unwrap_or(name).trim().to_uppercase().as_str()]);
        heading.to_writer(page)?;
        // What every command takes is told once, at the top.
        let common = |argument: &Arg| {
            argument.is_global_set() || matches!(argument.get_id().as_str(), "help" | "version")
        };
        let own = command.clone().mut_args(|argument| {
            let hidden = common(&argument);
            argument.hide(hidden)
        });
        let listed = own.get_arguments().any(|argument| !argument.is_hide_set());
        let man = Man::new(own);
        let mut section = Vec::new();
        man.render_synopsis_section(&mut section)?;
        man.render_description_section(&mut section)?;
        if listed {
            man.render_options_section(&mut section)?;
        }
        // Headings of a page of its own become sub-headings here.
        page.extend_from_slice(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes());
    }
    Ok(())
}

/// What the definition does not know.
fn closing() -> Roff {
    let mut roff = Roff::default();
    let mut section = |heading: &str, entries: &[(&str, &str)]| {
        roff.control("SH", [heading]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
    };
    section(
        "EXIT STATUS",
        &[
            ("0", "Done."),
            ("1", "It could not be done."),
            ("2", "The command line makes no sense."),
            ("65", "The trace cannot be read; the message names the line."),
            ("78", "The configuration cannot be used."),
        ],
    );
    section(
        "ENVIRONMENT",
        &[
            ("STATE_DIRECTORY", "Where the state is kept unless said otherwise; systemd sets it."),
            ("XDG_STATE_HOME, HOME", "Where to look for a place for the state after that."),
        ],
    );
    section(
        "EXAMPLES",
        &[
            (NAME, "Run a trial on this machine: HTTP on 127.0.0.1:8080, MQTT on 127.0.0.1:1883."),
            ("unifiedpush-gateway listen", "Print an endpoint, then every push that arrives at it."),
            ("unifiedpush-gateway device add phone", "Pair a phone."),
        ],
    );
    roff
}
