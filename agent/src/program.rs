//! The agent's own program, as what it starts of itself (holders, supervisors of migrations) must name it.

/// The kernel's link to the program that runs, and not its path: that path is gone, or names another version,
/// once a package upgrade has replaced the file under a running agent.
pub const OWN: &str = "/proc/self/exe";

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn a_program_whose_file_was_replaced_can_still_start_itself() {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("copy");
        std::fs::copy("/bin/bash", &copy).unwrap();
        let script = format!("rm {}; {} -c 'echo still here'", copy.display(), super::OWN);
        let output = Command::new(&copy).arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "still here\n", "{output:?}");
    }
}
