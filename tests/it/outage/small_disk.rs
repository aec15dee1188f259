//! A file system that is soon full.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Says that on this machine nobody may mount a file system.
const NO_TMPFS: &str = "SLUICEGATE_NO_TMPFS";

/// A tmpfs of a few megabytes.
pub struct SmallDisk {
    root: TempDir,
    /// What has to stand before `mount` and `umount`: nothing, or `sudo`.
    rights: &'static [&'static str],
}

impl SmallDisk {
    /// One that is the user's who runs a process. None, said loudly, where [`NO_TMPFS`] is 1.
    pub fn mount_for(process: &str) -> Option<SmallDisk> {
        let user = fs::metadata(format!("/proc/{process}")).unwrap();
        let options = format!("size=16m,mode=755,uid={},gid={}", user.uid(), user.gid());
        let root = TempDir::new().unwrap();
        let mut said = String::new();
        for rights in [&[][..], &["sudo", "-n"]] {
            let mount = ["mount", "-t", "tmpfs", "-o", &options, "sluicegate-test"];
            match run(rights, &mount, root.path()) {
                Ok(()) => return Some(SmallDisk { root, rights }),
                Err(error) => said += &error,
            }
        }
        let is_known = std::env::var_os(NO_TMPFS).is_some_and(|value| value == "1");
        assert!(
            is_known,
            "no tmpfs can be mounted; where that can't be helped set {NO_TMPFS}=1: {said}"
        );
        // not by a macro, whose words are kept to themselves where a test passes
        let mut stderr = io::stderr();
        writeln!(stderr, "NOT TESTED: a full disk, for want of a small one: {said}").unwrap();
        None
    }

    /// Where it is.
    pub fn place(&self) -> &Path {
        self.root.path()
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let full = std::iter::repeat_with(|| filler.write_all(&[0; 4096])).find_map(Result::err);
        assert_eq!(full.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    /// Makes room again.
    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.place().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = run(self.rights, &["umount", "--lazy"], self.place());
    }
}

/// Runs a command on a directory; gives what it says where it fails.
fn run(rights: &[&str], command: &[&str], directory: &Path) -> Result<(), String> {
    let words = [rights, command].concat();
    let ran = Command::new(words[0]).args(&words[1..]).arg(directory).output();
    match ran {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(format!("{}: {error}\n", words[0])),
    }
}
