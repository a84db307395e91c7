//! Frames as JSON: fields by their names in the schema, bytes in hexadecimal,
//! numbers as numbers; a field with its default value is left out.
//!
//! `{"number": 1, "body": "6869", "send": {"again": true}}`

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use petrel_proto::wire::{self, Frame, frame::What};
use serde_json::{Map, Value};

/// A value of a field.
trait Field: Sized {
    /// `None` for a default value, which does not travel.
    fn write(&self) -> Option<Value>;
    /// From what [`Field::write`] gave; `None` if the field was left out.
    fn read(value: Option<&Value>) -> Result<Self>;
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of lower-case hexadecimal.
pub(crate) fn unhex(text: &str) -> Result<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        bail!("not hexadecimal: {text}");
    }
    let digits = |at: usize| text.get(at..at + 2).context("not hexadecimal");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits(at)?, 16).with_context(|| format!("{text} at {at}")))
        .collect()
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn write(&self) -> Option<Value> {
                (*self != 0).then(|| Value::from(*self))
            }
            fn read(value: Option<&Value>) -> Result<Self> {
                let Some(value) = value else { return Ok(0) };
                let number = value.as_u64().with_context(|| format!("not a number: {value}"))?;
                <$type>::try_from(number).context("number out of range")
            }
        }
    )*};
}
number!(u64, u32, i32);

impl Field for bool {
    fn write(&self) -> Option<Value> {
        self.then_some(Value::Bool(true))
    }
    fn read(value: Option<&Value>) -> Result<Self> {
        value.map_or(Ok(false), |v| v.as_bool().context("neither true nor false"))
    }
}

impl Field for String {
    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| Value::from(self.as_str()))
    }
    fn read(value: Option<&Value>) -> Result<Self> {
        value.map_or(Ok(Self::new()), |v| Ok(v.as_str().context("not a string")?.to_owned()))
    }
}

impl Field for Bytes {
    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| Value::from(hex(self)))
    }
    fn read(value: Option<&Value>) -> Result<Self> {
        value.map_or(Ok(Self::new()), |v| Ok(unhex(v.as_str().context("not a string")?)?.into()))
    }
}

impl<T: Message> Field for Option<T> {
    fn write(&self) -> Option<Value> {
        self.as_ref().map(Message::to_json)
    }
    fn read(value: Option<&Value>) -> Result<Self> {
        value.map(T::from_json).transpose()
    }
}

/// Elements keep their defaults, so each is written whatever it is.
trait Element: Sized {
    fn to_value(&self) -> Value;
    fn from_value(value: &Value) -> Result<Self>;
}

macro_rules! element {
    ($($type:ty => $default:expr),*) => {$(
        impl Element for $type {
            fn to_value(&self) -> Value {
                self.write().unwrap_or($default)
            }
            fn from_value(value: &Value) -> Result<Self> {
                Self::read(Some(value))
            }
        }
    )*};
}
element!(u32 => Value::from(0), u64 => Value::from(0), bool => Value::Bool(false), String => Value::from(""), Bytes => Value::from(""));

impl<T: Message> Element for T {
    fn to_value(&self) -> Value {
        self.to_json()
    }
    fn from_value(value: &Value) -> Result<Self> {
        T::from_json(value)
    }
}

impl<T: Element> Field for Vec<T> {
    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(Element::to_value).collect())
    }
    fn read(value: Option<&Value>) -> Result<Self> {
        let Some(value) = value else { return Ok(Self::new()) };
        value.as_array().context("not a list")?.iter().map(T::from_value).collect()
    }
}

/// A message of the schema.
trait Message: Sized {
    fn to_json(&self) -> Value;
    fn from_json(value: &Value) -> Result<Self>;
}

fn known_only(object: &Map<String, Value>, known: &[&str]) -> Result<()> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => bail!("unknown field {key}"),
        None => Ok(()),
    }
}

macro_rules! messages {
    ($($type:ident { $($field:ident),* })*) => {$(
        impl Message for wire::$type {
            fn to_json(&self) -> Value {
                #[allow(unused_mut, reason = "some messages have no fields")]
                let mut object = Map::new();
                $(if let Some(value) = self.$field.write() {
                    object.insert(stringify!($field).to_owned(), value);
                })*
                Value::Object(object)
            }
            fn from_json(value: &Value) -> Result<Self> {
                let object = value.as_object().context("not an object")?;
                known_only(object, &[$(stringify!($field)),*])?;
                Ok(Self { $($field: Field::read(object.get(stringify!($field)))?),* })
            }
        }
    )*};
}

messages! {
    Send { again, seen, revision }
    Ack {}
    Push { revision, changed, recalled, hidden, reactions }
    ReactionCount { emoji, count, own }
    Typing { conversation, stopped }
    Preview {}
    Receipts { members, along }
    MemberReceipt { user, delivered, read }
    Refusal { code, text, retry_after_ms, server_time_ms }
    Cursor { seq, tail }
    Attach { conversation, peer, cursor, older, own, head, count, receipts }
    Reset { to }
    Gap { from, to, reason }
    Superseded {}
    Hello { token, features, dictionaries, receipts, agent, background }
    OwnReceipt { conversation, delivered, read }
    Welcome {
        server_time_ms, session, user, features, dictionaries, body_bytes_max, streams_max,
        token_expires_ms, log, idle_timeout_ms
    }
    RefreshDue {}
    Refresh { token }
    Hint { conversation, head, peer }
    GoAway { reconnect_after_ms_min, reconnect_after_ms_max, alternatives }
    Register { user_name, device_label, password }
    Registered { user, device, device_secret }
    AddDevice { label }
    Login { device, device_secret }
    Token { token, expires_ms }
    FindUsers { names, users }
    UserFound { user, name, nickname, avatar }
    ListConversations { page, limit, since_ms }
    Summary {
        conversation, peer, unread, own, peer_receipt, last_activity_ms, group, mentions, settings
    }
    ReadHistory { conversation, from, to, limit, newest }
    FetchDictionary { version }
    Dictionary {}
    Done { next_page, head }
    Echo { copies }
    Probe { answer }
    Copy { stream, offset, data }
    Attention { background }
    WatchPresence { users }
    Presence { user, online, seen_ms }
    LogInWithPassword { user_name, password, device_label }
    LogInWithToken { token, device_label }
    ChangePassword { old, new, revoke_others }
    ListDevices {}
    DeviceFound { device, label, created_ms, seen_ms, own }
    RevokeDevice { device }
    GetAccount {}
    Account { user, privacy, has_password, settings }
    Privacy { messages, groups, presence }
    Setting { key, value }
    Person { nickname, avatar }
    MemberSettings { silenced_until_ms, pinned_ms, archived }
    SetConversation { conversation, settings }
    HideEntries { conversation, seqs }
    GroupProfile { name, avatar, joins, members_invite, whole_history, muted, created_ms }
    CreateGroup { profile, users }
    GetGroup { conversation }
    Group { conversation, profile, members, role, refused, asked }
    UserIds { users }
    RoleOf { user, role }
    MuteOf { user, until_ms }
    JoinGroup { conversation, link, text }
    MakeLink { conversation, expires_ms, uses_max }
    RevokeLink { conversation, hash }
    ListLinks { conversation }
    Link { secret, hash, by, expires_ms, uses_max, uses }
    ListMembers { conversation, page, limit }
    MemberFound { user, role, muted_until_ms }
    ListJoinRequests { conversation, page, limit }
    JoinRequest { user, text, asked_ms }
    ReadBy { conversation, seq }
    Contact { user, friendship, follows, is_followed, blocks, remark, text, changed_ms }
    ListContacts { page, limit }
    GroupMade { profile, users }
    ProfileChanged { profile }
    MembersAdded { users }
    MembersLeft { users }
    RoleChanged { user, role }
    MemberMuted { user, until_ms }
    ContactChanged { contact }
    AccountChanged { nickname, avatar, privacy }
    SettingChanged { key, value, removed }
    DeviceAdded { device, label }
    DevicesRevoked { device }
    ConversationSet { conversation, settings }
    EntriesHidden { conversation, seqs }
    JoinAsked { conversation, user, text, closed }
}

/// Messages with one of several fields, which is written whatever its value is.
macro_rules! choices {
    ($($type:ident in $module:ident { $($field:ident),* } {
        $($variant:ident = $name:ident),*
    })*) => {$(
        impl Message for wire::$type {
            fn to_json(&self) -> Value {
                #[allow(unused_mut, reason = "some messages have no other fields")]
                let mut object = Map::new();
                $(if let Some(value) = self.$field.write() {
                    object.insert(stringify!($field).to_owned(), value);
                })*
                match &self.what {
                    $(Some(wire::$module::What::$variant(choice)) => {
                        object.insert(stringify!($name).to_owned(), choice.to_value());
                    })*
                    None => {}
                }
                Value::Object(object)
            }
            fn from_json(value: &Value) -> Result<Self> {
                let object = value.as_object().context("not an object")?;
                known_only(object, &[$(stringify!($field),)* $(stringify!($name)),*])?;
                let mut what = None;
                $(if let Some(choice) = object.get(stringify!($name)) {
                    what = Some(wire::$module::What::$variant(Element::from_value(choice)?));
                })*
                Ok(Self { $($field: Field::read(object.get(stringify!($field)))?,)* what })
            }
        }
    )*};
}

choices! {
    ChangeGroup in change_group { conversation } {
        Profile = profile, Add = add, Remove = remove, Leave = leave, Role = role,
        Transfer = transfer, Mute = mute, Accept = accept, Decline = decline
    }
    ChangeContact in change_contact { user } {
        Ask = ask, Accept = accept, Decline = decline, Remove = remove, Remark = remark,
        Follow = follow, Block = block
    }
    ChangeAccount in change_account {} {
        Person = person, Privacy = privacy, Set = set, Unset = unset
    }
    Event in event {} {
        GroupMade = group_made, ProfileChanged = profile_changed, MembersAdded = members_added,
        MembersLeft = members_left, RoleChanged = role_changed, MemberMuted = member_muted,
        ContactChanged = contact_changed, AccountChanged = account_changed,
        SettingChanged = setting_changed, DeviceAdded = device_added,
        DevicesRevoked = devices_revoked, ConversationSet = conversation_set,
        EntriesHidden = entries_hidden, JoinAsked = join_asked
    }
}

/// An event as JSON.
pub(crate) fn event_to_json(event: &wire::Event) -> Value {
    event.to_json()
}

/// The event that JSON describes.
pub(crate) fn event_from_json(value: &Value) -> Result<wire::Event> {
    Message::from_json(value)
}

macro_rules! frame {
    (header { $($field:ident),* } what { $($variant:ident = $name:ident),* $(,)? }) => {
        /// A frame as JSON.
        pub(crate) fn to_json(frame: &Frame) -> Value {
            let mut object = Map::new();
            $(if let Some(value) = frame.$field.write() {
                object.insert(stringify!($field).to_owned(), value);
            })*
            match &frame.what {
                $(Some(What::$variant(message)) => {
                    object.insert(stringify!($name).to_owned(), message.to_json());
                })*
                None => {}
            }
            Value::Object(object)
        }

        /// The frame that JSON describes.
        pub(crate) fn from_json(value: &Value) -> Result<Frame> {
            let object = value.as_object().context("not an object")?;
            known_only(object, &[$(stringify!($field),)* $(stringify!($name)),*])?;
            let mut what = None;
            $(if let Some(message) = object.get(stringify!($name)) {
                what = Some(What::$variant(Message::from_json(message)?));
            })*
            Ok(Frame { $($field: Field::read(object.get(stringify!($field)))?,)* what })
        }
    };
}

frame! {
    header { number, id, seq, sender, time_ms, count, entry_kind, encoding, body, target, mentions }
    what {
        Send = send, Ack = ack, Push = push, Preview = preview, Receipts = receipts,
        Refusal = refusal, Attach = attach, Reset = reset, Gap = gap, Superseded = superseded,
        Typing = typing, Echo = echo, Probe = probe, WatchPresence = watch_presence,
        Presence = presence, Attention = attention,
        Hello = hello, Welcome = welcome, RefreshDue = refresh_due, Refresh = refresh,
        Hint = hint, GoAway = go_away,
        Register = register, Registered = registered, Login = login, Token = token,
        AddDevice = add_device,
        FindUsers = find_users, UserFound = user_found,
        ListConversations = list_conversations, Summary = summary, ReadHistory = read_history,
        FetchDictionary = fetch_dictionary, Dictionary = dictionary,
        CreateGroup = create_group, GetGroup = get_group, Group = group,
        ChangeGroup = change_group, JoinGroup = join_group, MakeLink = make_link,
        RevokeLink = revoke_link, ListLinks = list_links, Link = link,
        ListMembers = list_members, MemberFound = member_found,
        ListJoinRequests = list_join_requests, JoinRequest = join_request, ReadBy = read_by,
        ChangeContact = change_contact, Contact = contact, ListContacts = list_contacts,
        LogInWithPassword = log_in_with_password, LogInWithToken = log_in_with_token,
        ChangePassword = change_password, ListDevices = list_devices,
        DeviceFound = device_found, RevokeDevice = revoke_device, GetAccount = get_account,
        Account = account, ChangeAccount = change_account,
        SetConversation = set_conversation, HideEntries = hide_entries,
        Done = done,
    }
}
