//! What makes a machine's init start the containers: text to print, never a file that is written.

use std::process::ExitCode;

use crate::cli::report::Report;
use crate::cli::{Session, ui};

/// Prints the text for one init.
pub(super) fn print(init: &str, session: &Session) -> Result<ExitCode, Report> {
    let program = std::env::current_exe()
        .map_err(|error| Report::failed("cannot find this program's own file").because(&error))?;
    let mut command = program.display().to_string();
    if let Some(root) = session.root() {
        command.push_str(&format!(" --root {}", root.display()));
    }
    command.push_str(" system boot");
    ui::raw_data(text(init, &command).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text(init: &str, command: &str) -> String {
    match init {
        "systemd" => format!(
            "# /etc/systemd/system/cask-boot.service, or ~/.config/systemd/user/ for a user\n\
             [Unit]\n\
             Description=Containers of cask that restart\n\
             Wants=network-online.target\n\
             After=network-online.target\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             KillMode=none\n\
             ExecStart={command}\n\
             \n\
             [Install]\n\
             WantedBy=default.target\n"
        ),
        "openrc" => format!(
            "#!/sbin/openrc-run\n\
             # /etc/init.d/cask-boot\n\
             description=\"Containers of cask that restart\"\n\
             depend() {{\n\
             \tneed net localmount\n\
             }}\n\
             start() {{\n\
             \tebegin \"Starting containers\"\n\
             \t{command}\n\
             \teend $?\n\
             }}\n"
        ),
        _ => format!("# for `crontab -e`\n@reboot {command}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_init_gets_the_command() {
        for init in ["systemd", "openrc", "cron"] {
            assert!(text(init, "/bin/cask system boot").contains("/bin/cask system boot\n"));
        }
    }
}
