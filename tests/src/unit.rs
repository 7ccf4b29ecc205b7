//! How the systemd unit runs the gateway.

/// The variables that the unit sets: name and value.
pub fn unit_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let unit = include_str!("../../systemd/unifiedpush-gateway.service");
    let variables = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    variables.map(|variable| variable.split_once('=').expect("Environment=NAME=VALUE"))
}

#[cfg(test)]
mod tests {
    use super::unit_environment;

    #[test]
    fn the_unit_says_how_memory_is_given_back() {
        let names: Vec<_> = unit_environment().map(|(name, _)| name).collect();
        assert_eq!(names, ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"]);
    }
}
