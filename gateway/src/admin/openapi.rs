//! The API as an OpenAPI 3.1 document, made from the table of commands.

use serde_json::{Map, Value, json};

use super::table::{Argument, COMMANDS, Command, Field, Kind, Shape};

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for command in COMMANDS {
        let path = format!("/admin/v1/{}/{}", command.group, command.name);
        paths.insert(path, json!({ "post": operation(command) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Petrel admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What `petrel admin` does, over HTTP on the admin port (docs/operations.md).",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "http://127.0.0.1:4480" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": error() },
        },
    })
}

/// The document as it is checked in.
pub fn text() -> String {
    // A Value always serialises.
    serde_json::to_string_pretty(&document()).unwrap_or_default() + "\n"
}

fn operation(command: &Command) -> Value {
    let refusal = json!({
        "description": "It was not done; `error` says why.",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
    });
    json!({
        "operationId": format!("{}_{}", command.group, command.name.replace('-', "_")),
        "summary": command.about,
        "tags": [command.group],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": request(command.arguments) } },
        },
        "responses": {
            "200": {
                "description": "It was done.",
                "content": { "application/json": { "schema": object(command.answer) } },
            },
            "default": refusal,
        },
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "text"],
            "properties": {
                "code": {
                    "type": "string",
                    "description": "A label of the codes in docs/protocol.md, or `unauthenticated`, \
                                    `no_such_command`, `method`, `content_type`, `too_slow`.",
                },
                "text": { "type": "string", "description": "What is wrong, for people." },
                "field": {
                    "type": ["string", "null"],
                    "description": "The argument that is to blame.",
                },
                "retry_after_ms": {
                    "type": ["integer", "null"],
                    "description": "When it makes sense to try again.",
                },
            },
        } },
    })
}

fn request(arguments: &[Argument]) -> Value {
    let property = |argument: &Argument| (argument.name.to_owned(), schema_of(argument));
    let properties: Map<String, Value> = arguments.iter().map(property).collect();
    let required = arguments.iter().filter(|a| a.required).map(|a| a.name);
    json!({
        "type": "object", "properties": properties, "additionalProperties": false,
        "required": required.collect::<Vec<_>>(),
    })
}

fn schema_of(argument: &Argument) -> Value {
    let mut schema = match argument.kind {
        // Bytes of UTF-8 at the most; so characters at the most, too.
        Kind::Line(max) | Kind::Lines(max) => json!({ "type": "string", "maxLength": max }),
        Kind::Password => json!({ "type": "string", "format": "password" }),
        Kind::Id => json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        Kind::Users(max) => {
            json!({ "type": "array", "items": { "type": "string" }, "maxItems": max })
        }
        Kind::Count(max) => json!({ "type": "integer", "minimum": 1, "maximum": max }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Switch => json!({ "type": "boolean" }),
    };
    schema["description"] = argument.about.into();
    schema
}

fn object(fields: &[Field]) -> Value {
    let property = |field: &Field| {
        let mut schema = match field.kind {
            Shape::Text => json!({ "type": "string" }),
            Shape::Count | Shape::Time => json!({ "type": "integer", "minimum": 0 }),
            Shape::Switch => json!({ "type": "boolean" }),
            Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Shape::Rows(fields) => json!({ "type": "array", "items": object(fields) }),
        };
        let unit =
            if matches!(field.kind, Shape::Time) { " Unix milliseconds; 0: never." } else { "" };
        schema["description"] = format!("{}{unit}", field.about).into();
        (field.name.to_owned(), schema)
    };
    let properties: Map<String, Value> = fields.iter().map(property).collect();
    let names: Vec<_> = fields.iter().map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": names })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn what_is_checked_in_is_what_the_table_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/admin.openapi.json");
        let is: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert!(is == document(), "petrel admin openapi > docs/admin.openapi.json");
    }

    #[test]
    fn every_command_is_there_once_and_says_what_it_is() {
        let document = document();
        assert_eq!(document["paths"].as_object().unwrap().len(), COMMANDS.len());
        for command in COMMANDS {
            assert!(command.about.ends_with('.'), "{command:?}");
            for argument in command.arguments {
                assert!(argument.about.ends_with('.'), "{command:?} {argument:?}");
                // One word: it is the same on the command line.
                assert!(argument.name.chars().all(|c| c.is_ascii_lowercase()), "{argument:?}");
            }
            assert!(command.answer.iter().all(|field| field.about.ends_with('.')), "{command:?}");
        }
    }
}
