//! Apache httpd serving the files of the stage, with the event worker.

use std::process::Command;

use super::openssl::with_tickets;
use super::{Layer, Site, Trouble, installed};

/// Apache httpd.
#[derive(Clone, Copy, Debug)]
pub struct Apache {
    /// mod_ssl.
    pub tls: bool,
}

const MODULES: &str = "/usr/lib/apache2/modules";

impl Layer for Apache {
    fn name(&self) -> &'static str {
        "apache"
    }

    fn ends_tls(&self) -> bool {
        self.tls
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let directory = site.directory.display();
        let files = site.stage.files();
        let mut file = format!(
            "LoadModule mpm_event_module {MODULES}/mod_mpm_event.so\n\
             LoadModule authz_core_module {MODULES}/mod_authz_core.so\n\
             ServerRoot {directory}\nPidFile {directory}/pid\nDefaultRuntimeDir {directory}\n\
             ServerName localhost\nErrorLog {directory}/error\nLogLevel error\n\
             Listen {listen}\nDocumentRoot {files}\nMaxKeepAliveRequests 0\n\
             <Directory {files}>\n  Require all granted\n</Directory>\n",
            listen = site.listen,
            files = files.display(),
        );
        if rustix::process::geteuid().is_root() {
            // It refuses to serve as root.
            file.push_str("User www-data\nGroup www-data\n");
        }
        if self.tls {
            let certificate = site.certificate();
            file.push_str(&format!(
                "LoadModule ssl_module {MODULES}/mod_ssl.so\nSSLEngine on\n\
                 SSLCertificateFile {}\nSSLCertificateKeyFile {}\nSSLSessionCache none\n\
                 Mutex pthread ssl-stapling\n",
                certificate.chain.display(),
                certificate.key.display(),
            ));
        }
        let file = site.write("apache.conf", &file)?;
        let mut command = installed("apache2")?;
        command.arg("-DFOREGROUND").arg("-f").arg(file);
        Ok(with_tickets(command, site)?)
    }
}
