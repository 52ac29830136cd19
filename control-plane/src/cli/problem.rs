//! A refusal of the API (problem+json, RFC 9457) as a person reads it: what, every
//! place, and the mend. Pure.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::cli::words::{clean, clean_lines};

/// What the control plane said instead of doing it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Its kind.
    pub(crate) status: StatusCode,
    problem: Problem,
    who: Who,
    /// What is there instead, when something is not.
    pub(crate) nearest: Option<String>,
}

/// Who asked.
#[derive(Debug)]
pub(crate) struct Who {
    /// Where the token is from.
    pub(crate) token_from: String,
    /// The role that was needed.
    pub(crate) role: &'static str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    request_id: String,
    errors: Vec<Place>,
}

#[derive(Debug, Deserialize)]
struct Place {
    #[serde(default)]
    pointer: String,
    #[serde(default)]
    detail: String,
}

impl Refusal {
    /// The refusal in an answer; also one of somebody who does not speak problem+json.
    pub(crate) fn read(status: StatusCode, body: &[u8], who: Who) -> Self {
        let problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
            detail: excerpt(&String::from_utf8_lossy(body)),
            ..Problem::default()
        });
        Self {
            status,
            problem,
            who,
            nearest: None,
        }
    }

    fn mend(&self) -> Option<String> {
        let Who { token_from, role } = &self.who;
        Some(match self.status {
            StatusCode::UNAUTHORIZED => format!(
                "The token is from {token_from}. It may have expired or been removed. An admin \
                 makes another:\n  tidegate api-token create --role {role} --out FILE\n\
                 and you use it with:\n  tidegate login --token-file FILE"
            ),
            StatusCode::FORBIDDEN => format!(
                "The token is from {token_from}. An admin makes one with the role {role}:\n  \
                 tidegate api-token create --role {role} --out FILE"
            ),
            StatusCode::NOT_FOUND => return self.nearest.clone(),
            StatusCode::PRECONDITION_FAILED => {
                "Somebody changed it in between. Look at it again, then repeat.".to_owned()
            }
            StatusCode::PAYLOAD_TOO_LARGE => "A document has 4 MiB at most.".to_owned(),
            StatusCode::SERVICE_UNAVAILABLE => {
                "Agents go on with what they have. Is Postgres up, and can the control plane reach \
                 it? Its log says more."
                    .to_owned()
            }
            status if status.is_server_error() && !self.problem.request_id.is_empty() => format!(
                "The control plane's log says more: look for {}.",
                clean(&self.problem.request_id)
            ),
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            title,
            detail,
            errors,
            ..
        } = &self.problem;
        let said = if detail.is_empty() { title } else { detail };
        if said.is_empty() {
            write!(f, "the control plane answered {}", self.status)?;
        } else {
            write!(f, "{}", clean_lines(said))?;
        }
        for place in errors {
            // The whole document has the empty pointer.
            let pointer = match place.pointer.as_str() {
                "" => "(whole)",
                pointer => pointer,
            };
            write!(f, "\n  {}: {}", clean(pointer), clean_lines(&place.detail))?;
        }
        match self.mend() {
            Some(mend) => write!(f, "\n{mend}"),
            None => Ok(()),
        }
    }
}

/// Enough of a text to know it by.
fn excerpt(text: &str) -> String {
    const MOST: usize = 200;
    let clean = clean(text.trim());
    match clean.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", clean.get(..end).unwrap_or_default()),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: u16, body: &str) -> String {
        let who = Who {
            token_from: "/home/ann/token".into(),
            role: "operator",
        };
        Refusal::read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), who).to_string()
    }

    #[test]
    fn every_mistake_has_its_place() {
        let body = json!({
            "title": "the document has mistakes", "status": 422,
            "errors": [
                { "pointer": "/listeners/0/pool", "detail": "there is no pool \"gmae\"" },
                { "pointer": "", "detail": "no listener has the role balancer" },
            ],
        });
        assert_eq!(
            told(422, &body.to_string()),
            "the document has mistakes\n  \
             /listeners/0/pool: there is no pool \"gmae\"\n  \
             (whole): no listener has the role balancer"
        );
    }

    #[test]
    fn each_kind_names_its_mend() {
        let body = r#"{"title": "no", "detail": "so it is", "request_id": "r-17"}"#;
        for (status, mend) in [
            (401, "tidegate api-token create --role operator"),
            (401, "/home/ann/token"),
            (403, "with the role operator"),
            (412, "Look at it again"),
            (413, "4 MiB"),
            (500, "r-17"),
            (503, "Postgres"),
        ] {
            let told = told(status, body);
            assert!(told.starts_with("so it is\n"), "{told}");
            assert!(told.contains(mend), "{status}: {told}");
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_is_quoted_a_little() {
        assert!(told(502, "").contains("502"));
        let told = told(502, &format!("<html>\x1b[31m{}", "x".repeat(9_000)));
        assert!(told.len() < 300 && told.contains("<html>"), "{told}");
        assert!(!told.contains('\x1b'), "{told}");
    }
}
