//! Watches the migrations, which `sqlx::migrate!` embeds, and embeds the dashboard:
//! `web-ui/dist` where `make ui` has built it, else a page that says so. With
//! `TIDEGATE_UI=required`, as for a release, the latter is an error.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../migrations");
    // Not TIDEGATE_UI: whoever sets it has built the dashboard, and that is noticed.
    println!("cargo:rerun-if-changed=../web-ui/dist");
    println!("cargo:rerun-if-changed=../web-ui/placeholder");
    let web_ui = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../web-ui");
    let mut folder = web_ui.join("dist");
    if !folder.join("index.html").is_file() {
        if std::env::var("TIDEGATE_UI").is_ok_and(|wanted| wanted == "required") {
            return Err("web-ui/dist is not there: run `make ui` first".into());
        }
        folder = web_ui.join("placeholder");
    }
    let mut files = Vec::new();
    collect(&folder, &mut files)?;
    files.sort();
    let table = table(&folder, &files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("ui.rs"), table)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        // The build's own notes, and what keeps the folder in the repository.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path.canonicalize()?);
        }
    }
    Ok(())
}

/// The files as a Rust table. What the build has compressed stands beside what it was.
fn table(folder: &Path, files: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let folder = folder.canonicalize()?;
    let mut rust = format!(
        "const INDEX: &str = include_str!({:?});\nstatic FILES: &[File] = &[\n",
        folder.join("index.html")
    );
    for file in files {
        let name = file.strip_prefix(&folder)?.to_str().ok_or("a name")?;
        let Some(content_type) = content_type(name)? else {
            continue;
        };
        let beside = |ending: &str| {
            let compressed = PathBuf::from(format!("{}.{ending}", file.display()));
            match compressed.is_file() {
                true => format!("Some(include_bytes!({compressed:?}))"),
                false => "None".to_owned(),
            }
        };
        writeln!(
            rust,
            "File {{ path: \"/{name}\", content_type: {content_type:?}, plain: include_bytes!({file:?}), \
             brotli: {}, gzip: {} }},",
            beside("br"),
            beside("gz")
        )?;
    }
    rust.push_str("];\n");
    Ok(rust)
}

/// None of what is not served by its own name.
fn content_type(name: &str) -> Result<Option<&'static str>, String> {
    let (_, ending) = name.rsplit_once('.').unwrap_or_default();
    Ok(Some(match ending {
        _ if name == "index.html" => return Ok(None),
        "br" | "gz" => return Ok(None),
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => {
            return Err(format!(
                "web-ui: what type has {name}? Say it in control-plane/build.rs"
            ));
        }
    }))
}
