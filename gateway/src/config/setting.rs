//! One table of settings: the macros below make of each `pub name: Type = default` the field, its
//! default, its documentation and its allowed values, so that none of them is written down twice.

use serde::de::DeserializeOwned;
use toml::Value;

/// The type of a setting's value.
pub trait SettingType: DeserializeOwned {
    /// A secret is never printed, not even in an error.
    const SECRET: bool = false;

    /// What may be written, for people: type, unit and range.
    fn allowed() -> String;

    /// The value as TOML, `***` for a secret; `None` if it is not set.
    fn shown(&self) -> Option<String>;
}

/// What is known of one setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// `section.name`, or `name` for those outside of sections.
    pub key: String,
    /// Its documentation, line by line.
    pub about: &'static [&'static str],
    /// Its default as TOML; `None`: it is not set by default.
    pub default: Option<String>,
    /// What may be written.
    pub allowed: String,
    /// A value to show where there is no default.
    pub example: Option<&'static str>,
    check: fn(Value) -> Result<(), String>,
}

/// What is known of one section.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name; empty for the settings outside of sections.
    pub name: &'static str,
    /// Its documentation, line by line.
    pub about: &'static [&'static str],
    /// Its settings, in order.
    pub settings: Vec<Setting>,
}

impl Setting {
    /// Of a field of this type.
    pub(super) fn of<T: SettingType>(
        key: String,
        about: &'static [&'static str],
        default: &T,
        example: Option<&'static str>,
    ) -> Self {
        let check = |value: Value| {
            value.try_into::<T>().map(drop).map_err(|error| {
                if T::SECRET { "is not a text".to_owned() } else { error.message().to_owned() }
            })
        };
        Self { key, about, default: default.shown(), allowed: T::allowed(), example, check }
    }

    /// Whether the value is allowed.
    ///
    /// # Errors
    /// What is wrong, and what is allowed.
    pub fn check(&self, value: Value) -> Result<(), String> {
        (self.check)(value)
            .map_err(|problem| format!("{}: {problem}; allowed: {}", self.key, self.allowed))
    }

    /// The name within its section.
    pub fn name(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or(&self.key)
    }
}

/// A section's struct.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident: $type:ty = $default:expr $(=> $example:literal)?, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $name {
            pub(super) fn section(name: &'static str) -> $crate::config::setting::Section {
                let defaults = Self::default();
                let settings = vec![$({
                    let example: &[&'static str] = &[$($example)?];
                    $crate::config::setting::Setting::of::<$type>(
                        $crate::config::setting::key(name, stringify!($field)),
                        &[$($doc),+],
                        &defaults.$field,
                        example.first().copied(),
                    )
                }),+];
                $crate::config::setting::Section { name, about: &[$($about),+], settings }
            }

            pub(super) fn shown(&self, name: &str, out: &mut Vec<(String, Option<String>)>) {
                use $crate::config::setting::SettingType as _;
                $( out.push((
                    $crate::config::setting::key(name, stringify!($field)),
                    self.$field.shown(),
                )); )+
            }
        }
    };
}

/// The whole: settings outside of sections, then sections. A section within another one is a field
/// of the whole as well, and says its name: `pub auth_issuer: Issuer as "auth.issuer"`.
macro_rules! configuration {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])+ pub $field:ident: $type:ty = $default:expr, )+
            $( sections: $(
                $(#[doc = $section_doc:literal])+ pub $section:ident: $section_type:ty $(as $name_of:literal)?,
            )+ )?
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
            $( $(
                $(#[doc = $section_doc])+
                $(#[serde(rename = $name_of)])?
                pub $section: $section_type,
            )+ )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ $( $( $section: <$section_type>::default(), )+ )? }
            }
        }

        impl $name {
            /// All that can be set, in the order of the documentation.
            pub fn sections() -> Vec<Section> {
                let defaults = Self::default();
                let settings = vec![$( $crate::config::setting::Setting::of::<$type>(
                    stringify!($field).to_owned(),
                    &[$($doc),+],
                    &defaults.$field,
                    None,
                ) ),+];
                vec![
                    $crate::config::setting::Section { name: "", about: &[], settings },
                    $( $( <$section_type>::section([$($name_of,)? stringify!($section)][0]), )+ )?
                ]
            }

            /// Each key with its value as TOML, secrets as `***`; `None`: not set.
            pub fn shown(&self) -> Vec<(String, Option<String>)> {
                use $crate::config::setting::SettingType as _;
                let mut out = vec![$( (stringify!($field).to_owned(), self.$field.shown()) ),+];
                $( $( self.$section.shown([$($name_of,)? stringify!($section)][0], &mut out); )+ )?
                out
            }
        }
    };
}

pub(super) use {configuration, section};

/// The key of a section's field.
pub(super) fn key(section: &str, field: &str) -> String {
    format!("{section}.{field}")
}
