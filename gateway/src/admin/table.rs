//! The one table of admin commands. The HTTP API, its OpenAPI document and `petrel admin` are made
//! from it, so that none of them is written down twice.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use petrel_core::limits;
use serde_json::Value;

use super::arguments::Given;
use super::problem::Problem;
use super::{cluster, devices, groups, messages, users};
use crate::gateway::Gateway;

/// What carries a command out.
pub(super) type Run = fn(Arc<Gateway>, Given) -> BoxFuture<'static, Result<Value, Problem>>;

/// A command.
pub struct Command {
    /// What it is about: the first word of the command line, and of the path.
    pub group: &'static str,
    /// The second.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether it changes anything: then it is in the audit log.
    pub changes: bool,
    /// What it is given.
    pub arguments: &'static [Argument],
    /// What it answers.
    pub answer: &'static [Field],
    pub(super) run: Run,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.group, self.name)
    }
}

/// Something that a command is given.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name: one word, the same in JSON and on the command line.
    pub name: &'static str,
    /// What may be given.
    pub kind: Kind,
    /// Whether it has to be.
    pub required: bool,
    /// What it is.
    pub about: &'static str,
}

/// What may be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A text of so many bytes at the most, without control characters.
    Line(usize),
    /// The same with line feeds; it is in no log.
    Lines(usize),
    /// A password: in no log, and never on a command line.
    Password,
    /// An id: 32 hexadecimal digits.
    Id,
    /// User names, so many at the most.
    Users(usize),
    /// A whole number from 1 to this.
    Count(u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// True or false.
    Switch,
}

/// A part of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What stands there.
    pub kind: Shape,
    /// What it is.
    pub about: &'static str,
}

/// What stands in an answer.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A text.
    Text,
    /// A whole number.
    Count,
    /// Unix milliseconds; 0: never.
    Time,
    /// True or false.
    Switch,
    /// Texts.
    Texts,
    /// Lines of a list.
    Rows(&'static [Field]),
}

const fn needed(name: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument { name, kind, required: true, about }
}

const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Argument {
    Argument { name, kind, required: false, about }
}

const fn field(name: &'static str, kind: Shape, about: &'static str) -> Field {
    Field { name, kind, about }
}

const NAME: Kind = Kind::Line(limits::USER_NAME_CHARS_MAX);
const LABEL: Kind = Kind::Line(limits::DEVICE_LABEL_BYTES_MAX);
const MEMBERS: Kind = Kind::Users(limits::GROUP_BATCH_MAX);
/// Lines of one page of a list, at the most.
pub(super) const PAGE_MAX: u64 = limits::PEOPLE_PAGE_MAX as u64;
const LIMIT: Argument =
    optional("limit", Kind::Count(PAGE_MAX), "Lines of this page; 100 unless it is given.");

const USER: Argument = needed("user", NAME, "The user's name.");
const GROUP: Argument = needed("group", Kind::Id, "The group's id.");
const USER_ID: Field = field("id", Shape::Text, "The user's id.");
const USER_NAME: Field = field("user", Shape::Text, "The user's name.");
const DEVICE: Field = field("device", Shape::Text, "The device's id.");
const SECRET: Field =
    field("device_secret", Shape::Text, "Proves the device, for good; it is shown this once.");
const GROUP_ID: Field = field("group", Shape::Text, "The group's id.");
const MEMBER_COUNT: Field = field("members", Shape::Count, "How many members it has now.");
const REFUSED: Field = field(
    "refused",
    Shape::Texts,
    "Users who do not let the owner put them in, or are in too many groups.",
);

/// All commands.
pub static COMMANDS: &[Command] = &[
    Command {
        group: "users",
        name: "create",
        about: "Makes an account with a first device.",
        changes: true,
        arguments: &[
            needed(
                "user",
                NAME,
                "Its name: 2 to 32 of a-z 0-9 . _ -, beginning with a letter or digit.",
            ),
            optional(
                "password",
                Kind::Password,
                "8 to 256 bytes; without one people log in by the device's secret alone.",
            ),
            optional("nickname", Kind::Line(limits::NICKNAME_BYTES_MAX), "The name to be shown."),
            optional(
                "label",
                LABEL,
                "What the first device is called; `admin` unless it is given.",
            ),
        ],
        answer: &[USER_ID, USER_NAME, DEVICE, SECRET],
        run: |gateway, given| Box::pin(users::create(gateway, given)),
    },
    Command {
        group: "users",
        name: "show",
        about: "Tells what is known of a user.",
        changes: false,
        arguments: &[USER],
        answer: &[
            USER_ID,
            USER_NAME,
            field("nickname", Shape::Text, "The name to be shown; empty for none."),
            field("has_password", Shape::Switch, "Whether the user can log in with a password."),
            field("devices", Shape::Count, "Devices that are not revoked."),
            field("groups", Shape::Count, "Groups that the user is a member of."),
            field("sessions", Shape::Count, "Sessions on this gateway now."),
            field("seen_ms", Shape::Time, "When a device was last signed in."),
        ],
        run: |gateway, given| Box::pin(users::show(gateway, given)),
    },
    Command {
        group: "users",
        name: "list",
        about: "Lists accounts in the order of their names.",
        changes: false,
        arguments: &[optional("after", NAME, "The last name of the page before."), LIMIT],
        answer: &[
            field(
                "users",
                Shape::Rows(&[
                    USER_ID,
                    USER_NAME,
                    field("nickname", Shape::Text, "The name to be shown; empty for none."),
                ]),
                "The page.",
            ),
            field("more", Shape::Switch, "Whether there may be another page."),
        ],
        run: |gateway, given| Box::pin(users::list(gateway, given)),
    },
    Command {
        group: "users",
        name: "set-password",
        about: "Sets a user's password.",
        changes: true,
        arguments: &[
            USER,
            needed("password", Kind::Password, "8 to 256 bytes."),
            optional(
                "revoke",
                Kind::Switch,
                "Whether all the user's devices are signed out for good.",
            ),
        ],
        answer: &[USER_ID, USER_NAME],
        run: |gateway, given| Box::pin(users::set_password(gateway, given)),
    },
    Command {
        group: "tokens",
        name: "issue",
        about: "Makes a device of a user, with a token for its first sign-in.",
        changes: true,
        arguments: &[
            USER,
            optional("label", LABEL, "What the device is called; `admin` unless it is given."),
        ],
        answer: &[
            USER_ID,
            USER_NAME,
            DEVICE,
            SECRET,
            field("token", Shape::Text, "The token."),
            field("expires_ms", Shape::Time, "When it ends."),
        ],
        run: |gateway, given| Box::pin(devices::issue(gateway, given)),
    },
    Command {
        group: "devices",
        name: "list",
        about: "Lists a user's devices that are not revoked, oldest first.",
        changes: false,
        arguments: &[USER],
        answer: &[field(
            "devices",
            Shape::Rows(&[
                DEVICE,
                field("label", Shape::Text, "What the person calls it."),
                field("created_ms", Shape::Time, "When it was added."),
                field("seen_ms", Shape::Time, "When it was last signed in."),
            ]),
            "The devices.",
        )],
        run: |gateway, given| Box::pin(devices::list(gateway, given)),
    },
    Command {
        group: "devices",
        name: "revoke",
        about: "Signs one device or all of a user out for good; their connections are closed.",
        changes: true,
        arguments: &[
            USER,
            optional("device", Kind::Id, "The device; this or `all`."),
            optional("all", Kind::Switch, "All devices."),
        ],
        answer: &[USER_ID, USER_NAME, field("devices", Shape::Count, "Devices that are left.")],
        run: |gateway, given| Box::pin(devices::revoke(gateway, given)),
    },
    Command {
        group: "groups",
        name: "create",
        about: "Makes a group.",
        changes: true,
        arguments: &[
            needed("owner", NAME, "Who owns it."),
            needed("title", Kind::Line(limits::GROUP_NAME_BYTES_MAX), "What it is called."),
            optional("users", MEMBERS, "Its first members beside the owner."),
            optional(
                "joins",
                Kind::Word(&["closed", "request", "open"]),
                "How people come in; `closed` unless it is given.",
            ),
        ],
        answer: &[GROUP_ID, MEMBER_COUNT, REFUSED],
        run: |gateway, given| Box::pin(groups::create(gateway, given)),
    },
    Command {
        group: "groups",
        name: "show",
        about: "Tells what is known of a group, with a page of its members.",
        changes: false,
        arguments: &[
            GROUP,
            optional("after", Kind::Id, "The last user's id of the page before."),
            LIMIT,
        ],
        answer: &[
            GROUP_ID,
            field("title", Shape::Text, "What it is called."),
            field("joins", Shape::Text, "How people come in: closed, request or open."),
            field("created_ms", Shape::Time, "When it was made."),
            MEMBER_COUNT,
            field(
                "page",
                Shape::Rows(&[
                    USER_ID,
                    USER_NAME,
                    field("role", Shape::Text, "member, admin or owner."),
                    field("muted_until_ms", Shape::Time, "Until when the member may not write."),
                ]),
                "Members in the order of their ids.",
            ),
            field("more", Shape::Switch, "Whether there may be another page."),
        ],
        run: |gateway, given| Box::pin(groups::show(gateway, given)),
    },
    Command {
        group: "groups",
        name: "add",
        about: "Puts users into a group, in the name of its owner and as far as they let him.",
        changes: true,
        arguments: &[GROUP, needed("users", MEMBERS, "Who comes in.")],
        answer: &[GROUP_ID, MEMBER_COUNT, REFUSED],
        run: |gateway, given| Box::pin(groups::add(gateway, given)),
    },
    Command {
        group: "groups",
        name: "remove",
        about: "Takes users out of a group, in the name of its owner; all or none.",
        changes: true,
        arguments: &[GROUP, needed("users", MEMBERS, "Who goes.")],
        answer: &[GROUP_ID, MEMBER_COUNT],
        run: |gateway, given| Box::pin(groups::remove(gateway, given)),
    },
    Command {
        group: "messages",
        name: "send",
        about: "Sends a message of the service itself to a user or into a group.",
        changes: true,
        arguments: &[
            needed("text", Kind::Lines(messages::TEXT_BYTES_MAX), "What it says."),
            optional("user", NAME, "To whom; this or `group`."),
            optional("group", Kind::Id, "Into which group."),
        ],
        answer: &[
            field("conversation", Shape::Text, "Where it stands."),
            field("seq", Shape::Count, "Its place there."),
        ],
        run: |gateway, given| Box::pin(messages::send(gateway, given)),
    },
    Command {
        group: "sessions",
        name: "count",
        about: "Counts who is signed in on this gateway.",
        changes: false,
        arguments: &[],
        answer: &[
            field("sessions", Shape::Count, "Signed-in devices."),
            field("users", Shape::Count, "Users with one of them at least."),
            field("connections", Shape::Count, "Connections, those before sign-in included."),
        ],
        run: |gateway, _| Box::pin(ready(Ok(users::count_sessions(&gateway)))),
    },
    Command {
        group: "cluster",
        name: "status",
        about: "Lists the gateways on the same database, as this one sees them.",
        changes: false,
        arguments: &[],
        answer: &[
            field("name", Shape::Text, "This gateway's name (cluster.name)."),
            field("clustered", Shape::Switch, "Whether it has others beside it (cluster.listen)."),
            field(
                "nodes",
                Shape::Rows(&[
                    field("name", Shape::Text, "Its name."),
                    field("node", Shape::Text, "This run of it."),
                    field("address", Shape::Text, "Where other gateways reach it."),
                    field(
                        "clients",
                        Shape::Text,
                        "Where clients reach it itself; empty: by a balancer alone.",
                    ),
                    field("version", Shape::Text, "Of its program."),
                    field("state", Shape::Text, "serving, draining or left."),
                    field(
                        "silent_ms",
                        Shape::Count,
                        "Since its last heartbeat; above 10,000 it counts as gone.",
                    ),
                    field("up_s", Shape::Count, "Since its start."),
                    field(
                        "link",
                        Shape::Text,
                        "up or down, from this gateway; or that it is this one.",
                    ),
                ]),
                "The gateways.",
            ),
        ],
        run: |gateway, _| Box::pin(ready(Ok(cluster::status(&gateway)))),
    },
    Command {
        group: "drain",
        name: "start",
        about: "Takes readiness back and sends the clients of this gateway elsewhere, at a pace.",
        changes: true,
        arguments: &[optional(
            "rate",
            Kind::Count(1_000_000),
            "Sessions that are sent away in a second; 100 unless it is given.",
        )],
        answer: DRAIN,
        run: |gateway, given| Box::pin(ready(Ok(cluster::start_drain(&gateway, &given)))),
    },
    Command {
        group: "drain",
        name: "status",
        about: "Tells how far it is.",
        changes: false,
        arguments: &[],
        answer: DRAIN,
        run: |gateway, _| Box::pin(ready(Ok(cluster::drain_status(&gateway)))),
    },
    Command {
        group: "drain",
        name: "abort",
        about: "Ends it: who is here stays, and the gateway is ready again.",
        changes: true,
        arguments: &[],
        answer: DRAIN,
        run: |gateway, _| Box::pin(ready(cluster::abort_drain(&gateway))),
    },
];

const DRAIN: &[Field] = &[
    field("draining", Shape::Switch, "Whether it is under way."),
    field("rate", Shape::Count, "Sessions that are sent away in a second."),
    field("seconds", Shape::Count, "Since it began."),
    field("began_with", Shape::Count, "Sessions when it began."),
    field("told", Shape::Count, "Times that a session was told to go."),
    field("sessions", Shape::Count, "Sessions that are here now."),
];

/// A group whose command of this name is what the group alone means on the command line.
pub const DEFAULT_NAME: &str = "start";

/// What the groups of commands are about, in the order of the table.
pub static GROUPS: &[(&str, &str)] = &[
    ("users", "Accounts"),
    ("tokens", "Tokens for users"),
    ("devices", "Users' devices"),
    ("groups", "Groups, in the name of their owners"),
    ("messages", "Messages of the service itself"),
    ("sessions", "Who is signed in"),
    ("cluster", "Gateways on the same database"),
    ("drain", "Sending clients elsewhere, before this gateway is stopped"),
];

/// The command of these two words.
pub fn find(group: &str, name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| (command.group, command.name) == (group, name))
}
