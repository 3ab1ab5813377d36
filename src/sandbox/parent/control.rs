//! What is done to a whole sandbox while it runs: its limits change, all that runs in it halts.

use super::super::cgroup::{Freezer, Limits, Lister};
use super::super::error::Error;
use super::{Child, group};

impl Child {
    /// Changes what all of its processes may use together, from `old` to `new`. `processes` lists
    /// them, for where something is limited that was not before. On an error the old limits hold.
    pub fn limit(
        &mut self,
        old: &Limits,
        new: &Limits,
        processes: &Lister<'_>,
    ) -> Result<(), Error> {
        if let Some(group) = &mut self.group {
            return group.change(old, new, processes).map_err(Error::Limit);
        }
        if let Some(group) = group(new)? {
            group.take_in_all(processes).map_err(Error::Limit)?;
            self.group = Some(group);
        }
        Ok(())
    }

    /// Has the kernel halt `processes`, unseen by them. Returns whether it does: that takes a
    /// control group (cgroup v2) to move them to.
    pub fn freeze(&mut self, processes: &Lister<'_>) -> bool {
        let made = match self.freezer.take() {
            Some(freezer) => Ok(freezer),
            None => Freezer::new(self.group.as_ref()),
        };
        let frozen = made.and_then(|freezer| freezer.freeze(processes).map(|()| freezer));
        self.freezer = frozen.ok();
        self.freezer.is_some()
    }

    /// Lets those go on that [`Child::freeze`] halted. Returns whether it had.
    pub fn thaw(&mut self) -> Result<bool, Error> {
        match &self.freezer {
            Some(freezer) => freezer.thaw().map(|()| true).map_err(Error::Limit),
            None => Ok(false),
        }
    }
}
