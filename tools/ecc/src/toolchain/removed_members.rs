//! Members that structs of the kernel have had, added to the `vmlinux.h` of a kernel that has them no more.
//!
//! Programs for many kernels ask at load time which member there is (`bpf_core_field_exists`), and name both. With the
//! header of a kernel that has one of them only, such code would not even compile. Offsets in the header do not matter:
//! libbpf takes those of the running kernel, and refuses an access that is carried out to what is not there.

/// Struct, member, and its declaration. Which kernels have it stands behind it.
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

/// The declarations with the members that are missing. They go to the front: the last member may be an array without
/// a length.
pub fn add(declarations: String) -> String {
    MEMBERS.iter().fold(declarations, |text, (of, name, member)| {
        let head = format!("\nstruct {of} {{\n");
        let Some(start) = text.find(&head).map(|at| at + head.len()) else { return text };
        let body = text[start..].split("\n};").next().unwrap_or_default();
        if has(body, name) {
            return text;
        }
        format!("{}\t{member};\n{}", &text[..start], &text[start..])
    })
}

/// Whether a member is called that; arrays and bit-fields have more behind the name.
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
    fn a_member_is_added_where_it_is_missing() {
        let now =
            "\nstruct bio {\n\tstruct block_device *bi_bdev;\n\tstruct bio_vec bi_inline_vecs[0];\n};\n";
        let added = "\nstruct bio {\n\tstruct gendisk *bi_disk;\n\tstruct block_device *bi_bdev;\n";
        assert!(add(now.into()).starts_with(added), "{}", add(now.into()));
        let then = "\nstruct bio {\n\tstruct gendisk *bi_disk;\n};\n\nstruct biosomething {\n};\n";
        assert_eq!(add(then.into()), then);
        assert_eq!(add("int a;\n".into()), "int a;\n");
    }

    #[test]
    fn a_name_in_another_struct_or_within_a_name_is_another() {
        let now = "\nstruct task_struct {\n\tunsigned int __state;\n\tunsigned int cpu;\n};\n\nstruct x {\n\tlong state;\n};\n";
        let added = add(now.into());
        assert!(
            added.contains("struct task_struct {\n\tvolatile long state;\n\tunsigned int __state;\n"),
            "{added}"
        );
        assert_eq!(added.matches(" cpu;").count(), 1);
    }
}
