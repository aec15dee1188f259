//! Who does something about dead letters.

use clap::Args;

/// Who does it.
#[derive(Debug, Args)]
pub(super) struct WhoArgs {
    /// Who does it, for the letter's history [default: the user's name]
    #[arg(long, env = "SLUICEGATE_WHO", value_name = "NAME")]
    who: Option<String>,
}

impl WhoArgs {
    pub(super) fn who(&self) -> String {
        let user = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        self.who.clone().or_else(user).unwrap_or_else(|| "unknown".to_owned())
    }
}
