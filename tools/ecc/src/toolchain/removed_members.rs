//! Adds members that kernel structs have lost to the `vmlinux.h` of newer kernels.
//!
//! Programs for many kernels name both the old and the new member, and test at load time which one exists
//! (`bpf_core_field_exists`). With the header of a kernel that has only one of them, such code would not compile. Offsets
//! in the header do not matter: libbpf uses those of the running kernel, and refuses accesses to missing members.

/// Struct, member, and its declaration, with the kernels that have it.
const MEMBERS: [(&str, &str, &str); 11] = [
    ("task_struct", "state", "volatile long state"), // before 5.14, then __state
    ("task_struct", "cpu", "unsigned int cpu"),      // before 5.16, then in thread_info
    ("bio", "bi_disk", "struct gendisk *bi_disk"),   // before 5.12, then bi_bdev
    ("request", "rq_disk", "struct gendisk *rq_disk"), // before 5.17, then q->disk
    ("mm_struct", "mmap", "struct vm_area_struct *mmap"), // before 6.1, then mm_mt
    ("vm_area_struct", "vm_next", "struct vm_area_struct *vm_next"), // before 6.1
    ("inode", "i_atime", "struct timespec64 i_atime"), // before 6.7, then __i_atime
    ("inode", "i_mtime", "struct timespec64 i_mtime"), // before 6.7, then __i_mtime
    ("inode", "i_ctime", "struct timespec64 i_ctime"), // before 6.6, then __i_ctime
    ("cfs_rq", "nr_running", "unsigned int nr_running"), // before 6.14, then nr_queued
    ("kernfs_node", "parent", "struct kernfs_node *parent"), // before 6.15, then __parent
];

/// Adds the missing members at the beginning of their structs: the last member may be a flexible array.
pub fn add(declarations: String) -> String {
    MEMBERS.iter().fold(declarations, |text, (of, name, member)| {
        let opening = format!("\nstruct {of} {{\n");
        let Some(start) = text.find(&opening).map(|at| at + opening.len()) else { return text };
        let body = text[start..].split("\n};").next().unwrap_or_default();
        if has(body, name) {
            return text;
        }
        format!("{}\t{member};\n{}", &text[..start], &text[start..])
    })
}

/// Whether a struct has a member of this name. In arrays and bit-fields, more follows the name.
fn has(body: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ends = |line: &str| {
        let member = line.split([';', '[', ':']).next().unwrap_or_default();
        member.rsplit(|c| !is_word(c)).next() == Some(name)
    };
    body.lines().any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_member_is_added() {
        let now =
            "\nstruct bio {\n\tstruct block_device *bi_bdev;\n\tstruct bio_vec bi_inline_vecs[0];\n};\n";
        let added = "\nstruct bio {\n\tstruct gendisk *bi_disk;\n\tstruct block_device *bi_bdev;\n";
        assert!(add(now.into()).starts_with(added), "{}", add(now.into()));
        let then = "\nstruct bio {\n\tstruct gendisk *bi_disk;\n};\n\nstruct biosomething {\n};\n";
        assert_eq!(add(then.into()), then);
        assert_eq!(add("int a;\n".into()), "int a;\n");
    }

    #[test]
    fn members_of_other_structs_and_longer_names_are_different() {
        let now = "\nstruct task_struct {\n\tunsigned int __state;\n\tunsigned int cpu;\n};\n\nstruct x {\n\tlong state;\n};\n";
        let added = add(now.into());
        assert!(
            added.contains("struct task_struct {\n\tvolatile long state;\n\tunsigned int __state;\n"),
            "{added}"
        );
        assert_eq!(added.matches(" cpu;").count(), 1);
    }
}
