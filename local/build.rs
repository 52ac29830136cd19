//! Has a new migration noticed: `sqlx::migrate!` by itself only notices changed ones.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
