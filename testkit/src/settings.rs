//! What a gateway under test is started with, on its command line.

use std::path::Path;

/// A tested gateway is asked more in a second than people ask in minutes; those that are tested for their limits name them.
const ROOMY: [&str; 5] = [
    "--min-pool-size=100",
    "--rate-limit-global-rpm=10000000",
    "--rate-limit-admin-rpm=10000000",
    "--rate-limit-server-owner-rpm=10000000",
    "--rate-limit-user-rpm=10000000",
];

/// A free port, this data folder and first key, limits that no test reaches, and `args`, which go before.
pub fn settings(folder: &Path, key: &str, args: &[impl AsRef<str>]) -> Vec<String> {
    let mut all =
        vec!["--port=0".into(), format!("--data-dir={}", folder.display()), format!("--bootstrap-admin-key={key}")];
    all.extend(roomy(args));
    all
}

/// `args`, and those limits of which they do not speak.
pub fn roomy(args: &[impl AsRef<str>]) -> Vec<String> {
    let name = |arg: &str| arg.split('=').next().unwrap_or_default().to_owned();
    let named: Vec<String> = args.iter().map(|arg| name(arg.as_ref())).collect();
    let rest = ROOMY.iter().filter(|roomy| !named.contains(&name(roomy)));
    rest.map(|roomy| (*roomy).to_owned()).chain(args.iter().map(|arg| arg.as_ref().to_owned())).collect()
}
