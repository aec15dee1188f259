//! Rebuilds when a migration is added: they are embedded, and a new file alone is not noticed.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
