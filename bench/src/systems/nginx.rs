//! nginx: `stream` and `http` in front of something, and serving files itself.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::openssl::with_tickets;
use super::{Layer, Mode, Site, Trouble, connection_limit, installed};

/// nginx as a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Nginx {
    /// `stream` or `http`.
    pub mode: Mode,
    /// `ssl` on the listen line.
    pub tls: bool,
    /// Buffers of 64 KiB, and connections to the app kept (`http`).
    pub tuned: bool,
}

/// nginx serving the files of the stage.
#[derive(Clone, Copy, Debug)]
pub struct NginxFiles {
    /// `ssl` on the listen line.
    pub tls: bool,
}

impl Nginx {
    /// `stream`, as it comes.
    pub const STREAM: Self = Self {
        mode: Mode::Tcp,
        tls: false,
        tuned: false,
    };

    /// `http`, as it comes.
    pub const HTTP: Self = Self {
        mode: Mode::Http,
        ..Self::STREAM
    };

    /// The same with TLS.
    #[must_use]
    pub const fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// The same, tuned.
    #[must_use]
    pub const fn tuned(self) -> Self {
        Self {
            tuned: true,
            ..self
        }
    }

    fn server(self, site: &Site) -> Result<String, Trouble> {
        let reuseport = if self.tuned { " reuseport" } else { "" };
        let listen = listen(self.tls, reuseport, site);
        let upstream = site.upstream()?;
        Ok(match self.mode {
            Mode::Tcp => {
                let buffers = if self.tuned {
                    "    proxy_buffer_size 64k;\n"
                } else {
                    ""
                };
                format!(
                    "stream {{\n  server {{\n{listen}    proxy_timeout 1h;\n{buffers}    \
                     proxy_pass {upstream};\n  }}\n}}\n"
                )
            }
            Mode::Http => {
                let (keep, location) = if self.tuned { TUNED_HTTP } else { ("", "") };
                format!(
                    "http {{\n  access_log off;\n  keepalive_timeout 1h;\n  \
                     keepalive_requests 1000000000;\n  \
                     map $http_upgrade $upgrading {{ default upgrade; '' '{idle}'; }}\n  \
                     upstream app {{ server {upstream};{keep} }}\n  server {{\n{listen}    \
                     location / {{\n      proxy_pass http://app;\n      proxy_read_timeout 1h;\n      \
                     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n      \
                     proxy_set_header X-Forwarded-Proto $scheme;\n{UPGRADE}{location}    }}\n  }}\n}}\n",
                    idle = if self.tuned { "" } else { "close" },
                )
            }
        })
    }
}

/// As nginx's documentation has WebSockets pass.
const UPGRADE: &str = "      proxy_http_version 1.1;\n      \
    proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection $upgrading;\n";

/// In `upstream`, and in `location`.
const TUNED_HTTP: (&str, &str) = (
    " keepalive 512; keepalive_requests 1000000000;",
    "      proxy_buffer_size 64k;\n      proxy_buffers 8 64k;\n      \
     proxy_busy_buffers_size 128k;\n      proxy_max_temp_file_size 0;\n",
);

impl Layer for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn ends_tls(&self) -> bool {
        self.tls
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        nginx(&self.server(site)?, site)
    }
}

impl Layer for NginxFiles {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn ends_tls(&self) -> bool {
        self.tls
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let server = format!(
            "http {{\n  access_log off;\n  sendfile on;\n  keepalive_requests 1000000000;\n  \
             server {{\n{listen}    root {files};\n  }}\n}}\n",
            listen = listen(self.tls, "", site),
            files = site.stage.files().display(),
        );
        nginx(&server, site)
    }
}

fn listen(tls: bool, options: &str, site: &Site) -> String {
    let address = site.listen;
    if !tls {
        return format!("    listen {address}{options};\n");
    }
    let certificate = site.certificate();
    format!(
        "    listen {address} ssl{options};\n    ssl_certificate {};\n    ssl_certificate_key {};\n    \
         ssl_protocols TLSv1.2 TLSv1.3;\n",
        certificate.chain.display(),
        certificate.key.display(),
    )
}

fn nginx(server: &str, site: &Site) -> Result<Command, Trouble> {
    let directory = site.directory.display();
    let mut file = format!(
        "daemon off;\npid {directory}/pid;\nerror_log stderr error;\nworker_processes {workers};\n\
         events {{ worker_connections {connections}; }}\n",
        workers = site.conditions.workers,
        // It counts both sides, and some of its own.
        connections = connection_limit() * 2 + 100,
    );
    if rustix::process::geteuid().is_root() {
        file.insert_str(0, "user root;\n");
    }
    let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
    if server.starts_with("stream") && module.exists() {
        file.insert_str(0, &format!("load_module {};\n", module.display()));
    }
    file.push_str(&in_its_folder(server, site));
    let file = site.write("nginx.conf", &file)?;
    let mut command = installed("nginx")?;
    command
        .args(["-e", "stderr", "-p"])
        .arg(&site.directory)
        .arg("-c")
        .arg(file);
    Ok(with_tickets(command, site)?)
}

/// Keeps what `http` writes to disk in the folder of the site.
fn in_its_folder(server: &str, site: &Site) -> String {
    let Some(rest) = server.strip_prefix("http {\n") else {
        return server.to_owned();
    };
    let mut text = String::from("http {\n");
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let path = site.directory.join(kind);
        // A String takes everything that is written to it.
        let _written = writeln!(text, "  {kind}_temp_path {};", path.display());
    }
    text + rest
}
