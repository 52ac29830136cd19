//! The OpenAPI description: what the handlers say of themselves, and what all of
//! them have in common.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Info, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder, tag};
use utoipa::{PartialSchema, ToSchema};

use super::answer::Tagged;
use super::problem::{Place, Sent};

/// Where it is served, for everybody.
pub(super) const PATH: &str = "/api/v1/openapi.json";

const ABOUT: &str = "Steers the agents of a cluster, and tells what they see. Every answer but \
    that of a deletion has an ETag; writes honour If-Match. An error is a problem (RFC 9457) with \
    all mistakes at once, each with its place.";

/// What stands before the handlers' own.
pub(super) fn head() -> OpenApi {
    let info = Info::builder()
        .title("Tidegate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .build();
    let tags = [
        (
            "document",
            "What people write and apply: the whole, or one resource of it",
        ),
        ("fleet", "What the agents are, do and see"),
        ("certificates", "Chains to read, keys to write only"),
        ("tokens", "Who may join, and who may use this API"),
        ("history", "What was, and who did it"),
        ("clients", "What clients do"),
    ];
    let tags = tags.map(|(name, text)| {
        let tag = tag::TagBuilder::new().name(name);
        tag.description(Some(text)).build()
    });
    OpenApiBuilder::new().info(info).tags(Some(tags)).build()
}

/// Adds what all operations have in common.
pub(super) fn finished(mut description: OpenApi) -> OpenApi {
    let components = description.components.get_or_insert_default();
    let bearer = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("tga1.<id>.<secret>")
        .build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    for (name, schema) in [
        (Sent::name(), Sent::schema()),
        (Place::name(), Place::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    description.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], _>(
        "token",
        [],
    )]);
    for item in description.paths.paths.values_mut() {
        for operation in operations(item) {
            let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(Sent::name()))));
            let problem = ResponseBuilder::new()
                .description("What was not done, and why")
                .content("application/problem+json", content)
                .build();
            let responses = &mut operation.responses.responses;
            responses.insert("default".to_owned(), problem.into());
        }
    }
    description
}

/// The answer with the description.
pub(super) fn answer(description: &OpenApi) -> Response {
    Tagged::of(description).into_response()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
    ];
    all.into_iter().filter_map(Option::as_mut)
}
