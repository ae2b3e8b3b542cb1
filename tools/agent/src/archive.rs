//! Tar archives: a package, and BTF files for kernels without BTF.
//!
//! An archive may come from somebody else, so it is not trusted. Nothing is unpacked to files: the package and the BTF of the running
//! kernel become one package, which the library opens like any other.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use eunomia::Status;
use eunomia::package::{Package, machine};
use tar::{Archive, EntryType};

use crate::loader::protocol::Failure;

const MAX_ENTRIES: usize = 100_000;
const PACKAGE: &str = "package.json";
const BTF_FOLDER: &str = "btfhub-archive";
/// The file in which a kernel exposes its own BTF.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
/// The offsets of the word `ustar` in an archive.
const MAGIC: std::ops::Range<usize> = 257..262;

/// Whether the bytes are an archive.
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.get(MAGIC) == Some(b"ustar")
}

/// Returns the package in `bytes`, which are a package or an archive that contains one.
pub fn open(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Failure> {
    match is_archive(bytes) {
        false => Ok(bytes.into()),
        true => package(bytes).map(Cow::Owned).map_err(|why| Failure::new(Status::Package, why)),
    }
}

/// The package in an archive, with the BTF that this kernel needs. The error is one line.
pub fn package(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let about = rustix::system::uname();
    let kernel = (about.release().to_string_lossy(), about.machine().to_string_lossy());
    let needs_btf = !Path::new(KERNEL_BTF).exists();
    merge(bytes, needs_btf.then_some((&kernel.0, &kernel.1)))
}

/// Returns the package in an archive, with BTF for the kernel of this release and machine.
fn merge(bytes: &[u8], kernel: Option<(&str, &str)>) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| format!("invalid tar archive: {error}");
    let (mut package, mut types) = (None, Vec::new());
    for (count, entry) in Archive::new(bytes).entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            continue;
        }
        let name = entry.path().map_err(broken)?.into_owned();
        let path = inside(&name).ok_or_else(|| format!("entry {name:?} is outside of the archive"))?;
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
        if !is_file && kind != EntryType::Directory {
            return Err(format!("entry {name:?} is not a regular file or directory"));
        }
        if count >= MAX_ENTRIES {
            return Err(format!("the archive has more than {MAX_ENTRIES} entries"));
        }
        let btf = kernel.filter(|_| is_file).and_then(|kernel| BtfFile::of(&path, kernel));
        // If there is no BTF for this kernel, one for another kernel is added, so that the error of the library names this kernel.
        let is_needed = btf.as_ref().is_some_and(|btf| btf.is_wanted || types.is_empty());
        if is_file && path == Path::new(PACKAGE) {
            package = Some(read(&mut entry).map_err(broken)?);
        } else if let Some(btf) = btf.filter(|_| is_needed) {
            types.push((btf, read(&mut entry).map_err(broken)?));
        }
    }
    let package = package.ok_or_else(|| format!("the archive has no {PACKAGE} at the top level"))?;
    if types.is_empty() {
        return Ok(package);
    }
    let mut package = Package::parse(&package).map_err(|error| error.message().to_owned())?;
    types.iter().for_each(|(btf, bytes)| package.add_kernel_btf(&btf.folder, &btf.release, bytes));
    Ok(package.to_json())
}

/// A file with the BTF of a kernel.
struct BtfFile {
    /// Its directory in the archive of BTFHub: `debian/12/x86_64`.
    folder: String,
    release: String,
    is_wanted: bool,
}

impl BtfFile {
    /// Parses a path of the form `btfhub-archive/DISTRIBUTION/VERSION/MACHINE/RELEASE.btf`.
    fn of(path: &Path, (release, own): (&str, &str)) -> Option<BtfFile> {
        let path = path.strip_prefix(BTF_FOLDER).ok()?.to_str()?.strip_suffix(".btf")?;
        let [distribution, version, other, found] = path.split('/').collect::<Vec<_>>().try_into().ok()?;
        let folder = format!("{distribution}/{version}/{}", machine::name(other));
        let is_wanted = found == release && machine::name(other) == machine::name(own);
        Some(BtfFile { folder, release: found.to_owned(), is_wanted })
    }
}

/// Normalizes a relative path. Returns `None` if it leads out of the directory.
fn inside(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Reads an entry. This needs no limit, because the entry cannot be larger than the archive, which is in memory already.
fn read(entry: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = b"{}";

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_package_is_found_and_other_bytes_are_returned() {
        let bytes = archive(&[("a.o", b"x"), ("./package.json", JSON)]);
        assert!(is_archive(&bytes) && !is_archive(JSON));
        assert_eq!(open(&bytes).unwrap(), JSON);
        assert_eq!(open(JSON).unwrap(), JSON);
    }

    #[test]
    fn only_the_btf_of_this_kernel_is_added() {
        let object = std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../target/packages/bootstrap/package.json"
        ));
        let object = object.expect("run `make packages` first");
        let btf = |machine: &str, release: &str| format!("btfhub-archive/debian/12/{machine}/{release}.btf");
        let files = [btf("x86_64", "5.4"), btf("x86_64", "6.1"), btf("aarch64", "6.1"), btf("arm64", "5.10")];
        let mut entries: Vec<(&str, &[u8])> =
            vec![("package.json", &object), ("btfhub-archive/readme", b"x")];
        entries.extend(
            files.iter().zip([&b"old"[..], b"own", b"arm", b"more"]).map(|(name, text)| (&**name, text)),
        );
        let bytes = archive(&entries);
        let merged = |kernel| Package::parse(&merge(&bytes, kernel).unwrap()).unwrap();
        let found = |package: &Package, folder, release| package.kernel_btf(folder, release).unwrap();
        let own = merged(Some(("6.1", "x86_64")));
        assert_eq!(found(&own, "debian/12/x86_64", "6.1").unwrap(), b"own");
        assert_eq!(found(&own, "debian/12/arm64", "6.1"), None);
        let arm = merged(Some(("6.1", "aarch64")));
        assert_eq!(found(&arm, "debian/12/arm64", "6.1").unwrap(), b"arm");
        assert_eq!(found(&arm, "debian/12/arm64", "5.10"), None);
        // A kernel without BTF in the archive: the library reports that, because there is BTF for others.
        let other = merged(Some(("4.18", "x86_64")));
        assert!(other.has_kernel_btf() && found(&other, "debian/12/x86_64", "4.18").is_none());
        assert_eq!(merge(&bytes, None).unwrap(), object, "a kernel with BTF needs none");
    }

    #[test]
    fn what_is_not_a_file_inside_is_refused() {
        for name in ["../out", "/tmp/out", "a/../../out"] {
            let why = package(&archive(&[(name, b"x"), ("package.json", JSON)])).unwrap_err();
            assert!(why.ends_with("is outside of the archive"), "{why}");
        }
        let mut link = tar::Header::new_ustar();
        link.set_entry_type(EntryType::Symlink);
        link.set_path("package.json").unwrap();
        link.set_link_name("/etc/shadow").unwrap();
        link.set_size(0);
        link.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&link, &b""[..]).unwrap();
        let why = package(&builder.into_inner().unwrap()).unwrap_err();
        assert!(why.ends_with("is not a regular file or directory"), "{why}");
        let why = package(&archive(&[("a/package.json", JSON)])).unwrap_err();
        assert_eq!(why, "the archive has no package.json at the top level");
        let cut = &archive(&[("package.json", &[b'x'; 2000])])[..1000];
        assert!(package(cut).unwrap_err().starts_with("invalid tar archive"), "{:?}", package(cut));
    }
}
