//! Who a process believes to be: the ids that setuid(2) and its family would have given it.
//!
//! Pure rules of credentials(7). In a user namespace with one id the kernel refuses them all, and
//! a program that drops its privileges and checks that it did must not notice.

use rustix::io::Errno;

/// Real, effective and saved id, and the one of the file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) fs: u32,
}

/// All ids of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Ids,
    pub(super) gid: Ids,
    pub(super) groups: Vec<u32>,
}

impl Identity {
    /// Whether it belongs to the group.
    pub(super) fn is_member(&self, gid: u32) -> bool {
        self.gid.fs == gid || self.groups.contains(&gid)
    }
}

impl Ids {
    /// setuid(2), setgid(2).
    pub(super) fn set(&mut self, id: u32, powerful: bool) -> Result<(), Errno> {
        if powerful {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return Err(Errno::PERM);
        }
        (self.effective, self.fs) = (id, id);
        Ok(())
    }

    /// setreuid(2), setregid(2). `None` keeps an id.
    pub(super) fn set_two(
        &mut self,
        real: Option<u32>,
        effective: Option<u32>,
        powerful: bool,
    ) -> Result<(), Errno> {
        let old = *self;
        let may = |id: Option<u32>, own: &[u32]| powerful || id.is_none_or(|id| own.contains(&id));
        if !may(real, &[old.real, old.effective])
            || !may(effective, &[old.real, old.effective, old.saved])
        {
            return Err(Errno::PERM);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        if real.is_some() || effective.is_some_and(|id| id != old.real) {
            self.saved = self.effective;
        }
        self.fs = self.effective;
        Ok(())
    }

    /// setresuid(2), setresgid(2). `None` keeps an id.
    pub(super) fn set_three(&mut self, ids: [Option<u32>; 3], powerful: bool) -> Result<(), Errno> {
        let own = [self.real, self.effective, self.saved];
        let mut given = ids.iter().flatten();
        if !powerful && given.any(|id| !own.contains(id)) {
            return Err(Errno::PERM);
        }
        self.real = ids[0].unwrap_or(self.real);
        self.effective = ids[1].unwrap_or(self.effective);
        self.saved = ids[2].unwrap_or(self.saved);
        self.fs = self.effective;
        Ok(())
    }

    /// setfsuid(2), setfsgid(2): returns the id before, whether it changed or not.
    pub(super) fn set_fs(&mut self, id: u32, powerful: bool) -> u32 {
        let before = self.fs;
        if powerful || [self.real, self.effective, self.saved, self.fs].contains(&id) {
            self.fs = id;
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(real: u32, effective: u32, saved: u32) -> Ids {
        Ids {
            real,
            effective,
            saved,
            fs: effective,
        }
    }

    #[test]
    fn who_dropped_root_cannot_get_it_back() {
        let mut user = Ids::default();
        user.set(33, true).unwrap();
        assert_eq!(user, ids(33, 33, 33));
        assert_eq!(user.set(0, false), Err(Errno::PERM));
        assert_eq!(user.set_two(None, Some(0), false), Err(Errno::PERM));
        assert_eq!(
            user.set_three([None, Some(0), None], false),
            Err(Errno::PERM)
        );
        assert_eq!(user.set_fs(0, false), 33);
        assert_eq!(user, ids(33, 33, 33));
    }

    #[test]
    fn who_only_lent_root_away_gets_it_back() {
        let mut user = Ids::default();
        user.set_three([None, Some(33), None], true).unwrap();
        assert_eq!(user, ids(0, 33, 0));
        user.set(0, false).unwrap();
        assert_eq!(user, ids(0, 0, 0));
        user.set_two(Some(5), Some(6), true).unwrap();
        assert_eq!(user, ids(5, 6, 6));
        user.set_two(Some(6), Some(5), false).unwrap();
        assert_eq!(user, ids(6, 5, 5));
        user.set_two(None, Some(6), false).unwrap();
        assert_eq!(user, ids(6, 6, 5), "the saved id stays with the real one");
    }
}
