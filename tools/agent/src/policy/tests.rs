use std::collections::BTreeSet;

use eunomia_effects::Findings;

use super::*;

fn policy(text: &str) -> Policy {
    Policy { path: None, rules: file::parse(text).unwrap(), trust: Trust::default() }
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    let failure = result.unwrap_err();
    format!("{}; {}", failure.message, failure.hint)
}

fn judged(kind: u32, helpers: &[u32], effects: &[&str]) -> Judged {
    let effects: BTreeSet<String> = effects.iter().map(|effect| (*effect).to_owned()).collect();
    let findings = Findings { helpers: helpers.iter().copied().collect(), effects, ..Findings::default() };
    Judged { name: "prog".into(), kind, findings }
}

#[test]
fn without_a_file_root_starts_all_and_others_what_is_signed() {
    let policy = policy("");
    assert_eq!(policy.check_source(Caller::Root, b"{}", None), Ok(None));
    let text = message(policy.check_source(Caller::Local, b"{}", None));
    assert_eq!(
        text,
        "refused by rule callers of the policy: local callers may not start packages; start it as root over the unix socket, or set callers.local in /etc/eunomia/policy.toml"
    );
    let text = message(policy.check_source(Caller::Network, b"{}", None));
    assert!(text.starts_with("refused by rule callers of the policy: network callers may start signed packages only, and this one is not signed"), "{text}");
    assert!(text.contains("set callers.network = \"any\""), "{text}");
}

#[test]
fn a_package_is_allowed_by_its_signature_or_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    std::fs::write(folder.path().join("a.pub"), keys.pk.to_box().unwrap().into_string()).unwrap();
    let sign = |bytes: &[u8]| {
        let signed = minisign::sign(None, &keys.sk, std::io::Cursor::new(bytes.to_vec()), Some("c"), None);
        signed.unwrap().into_string()
    };
    let path = folder.path().join("policy.toml");
    let text = format!(
        "keys = {:?}\ndigests = [\"sha256:{}\"]\n[callers]\nroot = \"signed\"",
        folder.path(),
        digest(b"listed").to_uppercase()
    );
    std::fs::write(&path, text).unwrap();
    let policy = Policy::load(Some(&path)).unwrap();
    let check = |bytes: &[u8], signature: Option<&str>| policy.check_source(Caller::Root, bytes, signature);
    let signer = check(b"a", Some(&sign(b"a"))).unwrap().unwrap();
    assert!(signer.starts_with("signed by ") && signer.ends_with(", c"), "{signer}");
    assert!(message(check(b"b", Some(&sign(b"a")))).contains("does not match"));
    assert!(message(check(b"b", None)).contains("add its digest to digests"));
    assert_eq!(check(b"listed", None), Ok(Some("its digest is in the policy".into())));
}

#[test]
fn programs_do_only_what_is_listed() {
    let policy = policy(
        "program_types = [\"kprobe\"]\ncalls = [\"bpf_ktime_get_ns\"]\neffects = [\"drops packets\", \"other\"]",
    );
    let check = |judged| policy.check_programs(&[judged]);
    let fine = ["drops packets (possibly: its result is computed)", "other: helper #999"];
    assert_eq!(check(judged(2, &[5], &fine)), Ok(()));
    let text = message(check(judged(6, &[5], &[])));
    assert_eq!(
        text,
        "refused by rule program_types of the policy: the program \"prog\" is of the type \"xdp\"; if that is intended, add \"xdp\" to program_types in /etc/eunomia/policy.toml"
    );
    assert!(message(check(judged(2, &[36], &[]))).contains(
        "refused by rule calls of the policy: the program \"prog\" calls \"bpf_probe_write_user\""
    ));
    assert!(
        message(check(judged(2, &[], &["sends signals to processes"])))
            .contains("add \"sends signals to processes\" to effects")
    );
    assert!(
        message(check(judged(2, &[], &["shares the pinned map /a with others"])))
            .contains("add \"shares pinned maps\"")
    );
}

#[test]
fn only_packages_below_a_source_are_downloaded() {
    let policy = policy("sources = [\"https://a.example/tools/\", \"oci://ghcr.io/org/\"]");
    assert!(policy.has_sources() && !super::tests::policy("").has_sources());
    for source in [
        "https://a.example/tools/x.json#sha256=00",
        "oci://ghcr.io/org/tool:1",
        "https://a.example/tools/a/b?c=d",
    ] {
        assert_eq!(policy.check_location(source), Ok(()), "{source}");
    }
    for source in [
        "https://a.example/x.json",
        "http://a.example/tools/x.json",
        "https://a.example/tools/../x",
        "https://a.example/tools/%2e%2e/x",
        "https://a.example/tools/\\x",
        "https://a.example/tools/ x",
        "https://a.example.evil/tools/x",
        "oci://ghcr.io/other/tool",
        "/etc/passwd",
        "",
    ] {
        assert!(
            message(policy.check_location(source)).starts_with("refused by rule sources of the policy"),
            "{source}"
        );
    }
    for place in
        ["https://a.example", "https://a.example/tools", "https://u@a.example/", "ghcr.io/org/", "https:///"]
    {
        assert!(
            file::parse(&format!("sources = [{place:?}]")).unwrap_err().starts_with("sources: "),
            "{place}"
        );
    }
}

#[test]
fn tasks_and_their_memory_are_limited() {
    let policy = policy("tasks = 2\nmemory_mib = 4\ntotal_memory_mib = 6");
    assert_eq!(policy.check_count(1), Ok(()));
    assert!(
        message(policy.check_count(2))
            .contains("refused by rule tasks of the policy: 2 tasks run already; stop one, or raise tasks")
    );
    let mib = |mib: u64| mib << 20;
    assert_eq!((policy.memory(0), policy.memory(mib(3))), (Ok(mib(4)), Ok(mib(3))));
    assert!(message(policy.memory(mib(6))).contains("refused by rule total_memory_mib"));
    assert_eq!(policy.check_memory(mib(4), mib(2)), Ok(()));
    assert!(message(policy.check_memory(mib(4) + 1, 0)).contains("refused by rule memory_mib"));
    assert!(message(policy.check_memory(mib(4), mib(3))).contains("refused by rule total_memory_mib"));
    assert_eq!(super::tests::policy("").memory(u64::MAX), Ok(0));
}

#[test]
fn each_mistake_in_the_file_is_explained() {
    let why = |text: &str| file::parse(text).unwrap_err();
    assert!(
        why("task = 1").starts_with("line 1: unknown field `task`, expected one of `callers`"),
        "{}",
        why("task = 1")
    );
    assert!(
        why("tasks = 1\ntasks = 2").starts_with("line 2: duplicate key"),
        "{}",
        why("tasks = 1\ntasks = 2")
    );
    assert!(
        why("\ntasks = -1").starts_with("line 2: invalid value: integer `-1`"),
        "{}",
        why("\ntasks = -1")
    );
    assert!(
        why("[callers]\nroot = \"all\"").starts_with("line 2: unknown variant `all`"),
        "{}",
        why("[callers]\nroot = \"all\"")
    );
    assert_eq!(why("digests = [\"abc\"]"), "digests: \"abc\" is not sha256: and 64 hexadecimal digits");
    assert_eq!(why("uprobe_folders = [\"bin\"]"), "uprobe_folders: \"bin\" is not an absolute path");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let load = || Policy::load(Some(&path)).map(drop).unwrap_err();
    assert!(load().contains("policy.toml: No such file"), "{}", load());
    std::fs::write(&path, "tasks = 1").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(load().contains("is writable by others"), "{}", load());
}
