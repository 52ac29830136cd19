//! Migrations are part of the program: another one is another program.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
