//! Where the control plane is, and who we are to it: arguments before variables,
//! variables before the file that `login` writes. Nothing here switches
//! verification off, and nothing shows a token.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::client::{Call, Client};
use crate::cli::error::Error;
use crate::cli::screen::Screen;
use crate::cli::words;

/// A token, an authority or a settings file is smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Above these options in every command's help.
const HEADING: &str = "Connection";

/// What every command takes.
#[derive(Args, Clone, Default)]
pub(crate) struct Given {
    /// Where the control plane answers REST [env: TIDEGATE_URL]
    #[arg(long, global = true, help_heading = HEADING, value_name = "URL")]
    url: Option<String>,

    /// A file with an API token [env, the token itself: TIDEGATE_TOKEN]
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// The authority that signed the control plane's certificate; the machine's own authorities
    /// when absent [env: TIDEGATE_CA_FILE]
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// `tidegate login`: asks the control plane once, then remembers it.
#[derive(Args)]
pub(crate) struct Login {
    #[command(flatten)]
    given: Given,
}

/// What `login` remembers.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remembered {
    /// Where REST is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// A file that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// Or the token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// What a client needs.
pub(crate) struct Connection {
    /// Where REST is answered, without `/api/v1`.
    pub(crate) url: Url,
    /// The token.
    pub(crate) token: Zeroizing<String>,
    /// Who said it, for errors.
    pub(crate) token_from: String,
    /// The only authority to trust; the machine's when absent.
    pub(crate) ca_file: Option<PathBuf>,
}

/// This process's variables, or a test's.
type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Given {
    /// A client of the control plane that arguments, variables or `login` name.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let variables = |name: &str| std::env::var_os(name);
        let path = remembered_path(&variables);
        let remembered = match &path {
            Some(path) => Remembered::read(path)?,
            None => Remembered::default(),
        };
        Client::new(self.settle(&variables, remembered, path.as_deref())?)
    }

    /// Each value from whoever comes first: arguments, variables, what is
    /// remembered (in the file at `path`).
    fn settle(
        &self,
        variables: Variables<'_>,
        remembered: Remembered,
        path: Option<&Path>,
    ) -> Result<Connection, Error> {
        let variable = |name| variables(name).filter(|value| !value.is_empty());
        let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
        let file = path.map_or_else(String::new, |path| path.display().to_string());

        let (url, from) = match (&self.url, text("TIDEGATE_URL"), remembered.url) {
            (Some(url), _, _) => (url.clone(), "--url".to_owned()),
            (None, Some(url), _) => (url, "TIDEGATE_URL".to_owned()),
            (None, None, Some(url)) => (url, file.clone()),
            (None, None, None) => return Err(Error::NoUrl),
        };
        let url = read_url(&url, from)?;

        let (token, token_from) = if let Some(path) = &self.token_file {
            (token_of(path)?, path.display().to_string())
        } else if let Some(token) = text("TIDEGATE_TOKEN") {
            (Zeroizing::new(token), "TIDEGATE_TOKEN".to_owned())
        } else if let Some(token) = remembered.token {
            (Zeroizing::new(token), file)
        } else if let Some(path) = &remembered.token_file {
            (token_of(path)?, path.display().to_string())
        } else {
            return Err(Error::NoToken(url.to_string()));
        };
        let ca_file = self.ca_file.clone();
        let ca_file = ca_file.or_else(|| variable("TIDEGATE_CA_FILE").map(PathBuf::from));
        Ok(Connection {
            url,
            token: Zeroizing::new(token.trim().to_owned()),
            token_from,
            ca_file: ca_file.or(remembered.ca_file),
        })
    }
}

/// HTTPS only: a token is not for whoever listens on the way.
fn read_url(written: &str, from: String) -> Result<Url, Error> {
    let bad = |why| Error::BadUrl {
        url: words::clean(written),
        from: from.clone(),
        why,
    };
    let example = "write https://HOST:7443";
    let url = Url::parse(written).map_err(|_| bad(example))?;
    if url.scheme() != "https" {
        return Err(bad(
            "it has to begin with https://, as in https://HOST:7443",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("leave the password out: a token says who you are"));
    }
    if url.cannot_be_a_base() || !url.has_host() {
        return Err(bad(example));
    }
    Ok(url)
}

fn token_of(path: &Path) -> Result<Zeroizing<String>, Error> {
    bounded(path).map(Zeroizing::new)
}

fn bounded(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(Error::file(path))?;
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(Error::file(path))?;
    Ok(text)
}

/// `TIDEGATE_CONFIG`, else in the user's configuration (XDG).
fn remembered_path(variables: Variables<'_>) -> Option<PathBuf> {
    let variable = |name| {
        let value = variables(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(path) = variable("TIDEGATE_CONFIG") {
        return Some(path);
    }
    let configuration = variable("XDG_CONFIG_HOME");
    let configuration =
        configuration.or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    Some(configuration.join("tidegate/config.json"))
}

impl Remembered {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = match bounded(path) {
            Ok(text) => Zeroizing::new(text),
            Err(Error::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error),
        };
        // The position alone: serde's own words could quote the token.
        serde_json::from_str(&text).map_err(|error| Error::Content {
            path: path.to_owned(),
            why: format!(
                "line {}, column {} is not what `tidegate login` writes: write it again with it",
                error.line(),
                error.column()
            ),
        })
    }

    /// Writes it for its owner alone, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        let fresh = path.with_extension("json.new");
        write_private(&fresh, &format!("{text}\n"))?;
        fs::rename(&fresh, path).map_err(Error::file(path))
    }
}

/// Writes a file that only its owner may read; one that is there already is
/// made so before anything is in it.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let open = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    open().map_err(Error::file(path))
}

impl Login {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let variables = |name: &str| std::env::var_os(name);
        let Some(path) = remembered_path(&variables) else {
            return Err(Error::Usage(
                "there is no HOME to remember it in: set TIDEGATE_CONFIG to a file".into(),
            ));
        };
        self.remember(&variables, &path, screen).await
    }

    /// Only what the control plane accepts is remembered.
    async fn remember(
        self,
        variables: Variables<'_>,
        path: &Path,
        screen: &mut Screen<'_>,
    ) -> Result<(), Error> {
        let before = Remembered::read(path)?;
        let connection = self.given.settle(variables, before.clone(), Some(path))?;
        let mut remembered = Remembered {
            url: Some(connection.url.to_string()),
            ca_file: connection.ca_file.as_deref().map(whole).transpose()?,
            ..Remembered::default()
        };
        // A file named stays a file: whoever changes the token there changes it here.
        match (&self.given.token_file, &before.token_file) {
            (Some(file), _) => remembered.token_file = Some(whole(file)?),
            (None, Some(file)) if connection.token_from == file.display().to_string() => {
                remembered.token_file = Some(file.clone());
            }
            _ => remembered.token = Some(connection.token.to_string()),
        }
        let client = Client::new(connection)?;
        let status: Value = client.send(Call::get(&["status"])).await?.json()?;
        remembered.write(path)?;
        screen.note(format!(
            "{}: cluster {}, revision {}. Remembered in {}.",
            client.url(),
            words::at(&status, "/cluster"),
            words::at(&status, "/revision"),
            path.display(),
        ))?;
        Ok(())
    }
}

/// The path from the root: later commands run elsewhere.
fn whole(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    fn variables(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + use<> {
        let map: BTreeMap<String, OsString> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), OsString::from(*v)))
            .collect();
        move |name| map.get(name).cloned()
    }

    fn remembered() -> Remembered {
        serde_json::from_value(
            json!({ "url": "https://file:1", "token": "in-file", "ca_file": "/file.pem" }),
        )
        .unwrap()
    }

    #[test]
    fn arguments_come_before_variables_and_those_before_the_file() {
        let token_file = tempfile::NamedTempFile::new().unwrap();
        fs::write(token_file.path(), "from-argument\n").unwrap();
        let all = Given {
            url: Some("https://argument:1".into()),
            token_file: Some(token_file.path().to_owned()),
            ca_file: Some("/argument.pem".into()),
        };
        let set = variables(&[
            ("TIDEGATE_URL", "https://variable:1"),
            ("TIDEGATE_TOKEN", "from-variable"),
            ("TIDEGATE_CA_FILE", "/variable.pem"),
        ]);
        let unset = variables(&[("TIDEGATE_URL", "")]);
        let none = Given::default();
        for (given, variables, host, token, ca) in [
            (
                &all,
                &set as Variables<'_>,
                "argument",
                "from-argument",
                "/argument.pem",
            ),
            (&none, &set, "variable", "from-variable", "/variable.pem"),
            (&none, &unset, "file", "in-file", "/file.pem"),
        ] {
            let settled = given
                .settle(variables, remembered(), Some(Path::new("/c")))
                .ok()
                .unwrap();
            assert_eq!(settled.url.host_str(), Some(host));
            assert_eq!(*settled.token, token);
            assert_eq!(settled.ca_file.as_deref(), Some(Path::new(ca)));
        }
    }

    #[test]
    fn without_any_of_them_the_error_says_what_to_run() {
        let none = variables(&[]);
        let given = Given::default();
        let error = given
            .settle(&none, Remembered::default(), None)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("tidegate login --url"),
            "{error}"
        );
        let only_url = variables(&[("TIDEGATE_URL", "https://here:7443")]);
        let error = given
            .settle(&only_url, Remembered::default(), None)
            .err()
            .unwrap();
        assert!(error.to_string().contains("TIDEGATE_TOKEN"), "{error}");
    }

    #[test]
    fn a_token_is_never_sent_over_plain_http() {
        let set = variables(&[
            ("TIDEGATE_URL", "http://here:7443"),
            ("TIDEGATE_TOKEN", "t"),
        ]);
        let error = Given::default()
            .settle(&set, Remembered::default(), None)
            .err()
            .unwrap();
        assert!(error.to_string().contains("https://"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named_and_its_token_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"url": "https://h", "token": ["hunter2"]}"#).unwrap();
        let error = Remembered::read(&path).err().unwrap().to_string();
        assert!(
            error.contains("config.json") && error.contains("login"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_file_is_where_the_user_keeps_settings() {
        for (set, path) in [
            (vec![("HOME", "/h")], "/h/.config/tidegate/config.json"),
            (
                vec![("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")],
                "/x/tidegate/config.json",
            ),
            (
                vec![("HOME", "/h"), ("TIDEGATE_CONFIG", "/d/c.json")],
                "/d/c.json",
            ),
        ] {
            assert_eq!(remembered_path(&variables(&set)), Some(path.into()));
        }
        assert_eq!(remembered_path(&variables(&[])), None);
    }

    #[tokio::test]
    async fn login_asks_first_and_writes_for_its_owner_alone() {
        let rest = Rest::start().await;
        rest.answer(
            "GET /status",
            200,
            &json!({ "cluster": "c-1", "revision": 7 }),
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config.json");
        let token_file = folder.path().join("token");
        fs::write(&token_file, format!("{}\n", rest.token())).unwrap();
        let login = |url: &str| Login {
            given: Given {
                url: Some(url.to_owned()),
                token_file: Some(token_file.clone()),
                ca_file: Some(rest.ca_file().to_owned()),
            },
        };
        let none = variables(&[]);
        let mut screen = Captured::default();
        let wrong = login("https://127.0.0.1:1");
        assert!(
            wrong
                .remember(&none, &path, &mut screen.screen())
                .await
                .is_err()
        );
        assert!(!path.exists());

        let right = login(rest.url());
        right
            .remember(&none, &path, &mut screen.screen())
            .await
            .unwrap();
        assert!(screen.notes().contains("cluster c-1, revision 7"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let written = fs::read_to_string(&path).unwrap();
        assert!(
            !written.contains(rest.token()),
            "the file is named instead: {written}"
        );
        let settled = Given::default().settle(&none, Remembered::read(&path).unwrap(), Some(&path));
        assert_eq!(settled.ok().unwrap().token.as_str(), rest.token());
    }
}
