//! One setting: its row, and the small language in which rows are written.
//!
//! A row reads `int("log.index.interval.bytes", number(4096)).at_least(0).works("...")`.
//! A default that breaks the row's own bounds does not compile.

/// The type of a setting's value, as in Kafka's `ConfigDef.Type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// 32 bits, signed.
    Int,
    /// 16 bits, signed.
    Short,
    /// 64 bits, signed.
    Long,
    /// A floating-point number.
    Double,
    /// Texts separated by commas.
    List,
    /// The name of a Java class.
    Class,
    /// A text that is never shown.
    Password,
}

impl Type {
    /// The number of the type in a DescribeConfigs answer (version 3 and up).
    pub fn to_wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// The type's name in documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        }
    }

    /// The type's name in Kafka's error messages.
    pub(super) fn kafka_name(self) -> String {
        self.name().to_uppercase()
    }
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// It has to be set.
    Required,
    /// No value.
    Null,
    /// A whole number.
    Number(i64),
    /// A floating-point number.
    Float(f64),
    /// Yes or no.
    Flag(bool),
    /// A text, or a list's items separated by commas.
    Text(&'static str),
}

/// What a list may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Items {
    /// Whether it may have no items.
    pub empty: bool,
    /// Whether it may be unset.
    pub null: bool,
}

impl Items {
    /// Nothing is required.
    pub const ANY: Self = Self { empty: true, null: true };
    /// It may be empty but not unset.
    pub const NOT_NULL: Self = Self { empty: true, null: false };
    /// It may be unset, but not set to nothing.
    pub const NOT_EMPTY: Self = Self { empty: false, null: true };
    /// It has at least one item.
    pub const FILLED: Self = Self { empty: false, null: false };
}

/// What a value must be beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Anything of the type.
    Any,
    /// Between two numbers, both included; `i64::MAX` above means no bound.
    Between(i64, i64),
    /// Between two floating-point numbers, both included.
    BetweenFloat(f64, f64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in upper or lower case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list without duplicates, of these items when any are named.
    List(Items, &'static [&'static str]),
    /// A text of at least one character, when it is set.
    NonEmpty,
    /// Not unset.
    NotNull,
    /// A gzip level: 1 to 9, or -1.
    GzipLevel,
    /// `*`, or a list of partition:broker.
    ThrottledReplicas,
    /// A list of host:port.
    Addresses,
    /// A list of id@host:port.
    Voters,
    /// `latest`, `earliest` or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
}

/// Whether and how a broker setting changes while the broker runs (KIP-226).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reload {
    /// Only by a restart.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For one broker or for the whole cluster.
    ClusterWide,
}

/// How much a setting matters to most users.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Importance {
    /// Everybody should know it.
    High,
    /// Some will set it.
    Medium,
    /// Few will ever set it.
    Low,
}

/// What a setting does in this broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It does what it says.
    Works,
    /// It is known, checked and shown, and changes nothing.
    NoEffect,
}

/// One setting, declared once; everything that knows settings reads this row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Apache Kafka's name of it.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Type,
    /// What it is when nobody sets it.
    pub fallback: Fallback,
    /// What a value must be beyond its type.
    pub rule: Rule,
    /// Whether it changes while the broker runs.
    pub reload: Reload,
    /// How much it matters.
    pub importance: Importance,
    /// Whether DescribeConfigs hides it unless it is set.
    pub internal: bool,
    /// The broker settings a topic's or group's setting falls back to, the first one first, each
    /// with the factor that turns its unit into this one's.
    pub broker_names: &'static [(&'static str, i64)],
    /// What it does here.
    pub standing: Standing,
    /// One or two sentences for users: meaning, unit, special values.
    pub doc: &'static str,
}

const fn row(name: &'static str, kind: Type, fallback: Fallback) -> Setting {
    Setting {
        name,
        kind,
        fallback,
        rule: Rule::Any,
        reload: Reload::ReadOnly,
        importance: Importance::Medium,
        internal: false,
        broker_names: &[],
        standing: Standing::NoEffect,
        doc: "",
    }
}

macro_rules! starts {
    ($($(#[$doc:meta])* $name:ident $kind:ident)*) => {
        $($(#[$doc])* pub const fn $name(name: &'static str, fallback: Fallback) -> Setting {
            row(name, Type::$kind, fallback)
        })*
    };
}

starts! {
    /// Begins the row of a yes-or-no setting.
    boolean Boolean
    /// Begins the row of a text.
    string String
    /// Begins the row of a 32-bit number.
    int Int
    /// Begins the row of a 16-bit number.
    short Short
    /// Begins the row of a 64-bit number.
    long Long
    /// Begins the row of a floating-point number.
    double Double
    /// Begins the row of a list.
    list List
    /// Begins the row of a Java class name.
    class Class
    /// Begins the row of a secret.
    password Password
}

/// No default: the setting has to be set.
pub const fn required() -> Fallback {
    Fallback::Required
}

/// The default "not set".
pub const fn null() -> Fallback {
    Fallback::Null
}

/// A whole number as the default.
pub const fn number(value: i64) -> Fallback {
    Fallback::Number(value)
}

/// A floating-point number as the default.
pub const fn float(value: f64) -> Fallback {
    Fallback::Float(value)
}

/// Yes or no as the default.
pub const fn flag(value: bool) -> Fallback {
    Fallback::Flag(value)
}

/// A text, or a list's items separated by commas, as the default.
pub const fn text(value: &'static str) -> Fallback {
    Fallback::Text(value)
}

impl Setting {
    /// Bounds a number from below.
    pub const fn at_least(self, min: i64) -> Self {
        self.between(min, i64::MAX)
    }

    /// Bounds a number from both sides.
    pub const fn between(self, min: i64, max: i64) -> Self {
        if let Fallback::Number(value) = self.fallback {
            assert!(min <= value && value <= max, "the default is out of bounds");
        }
        self.rule(Rule::Between(min, max))
    }

    /// Bounds a floating-point number.
    pub const fn range_float(self, min: f64, max: f64) -> Self {
        if let Fallback::Float(value) = self.fallback {
            assert!(min <= value && value <= max, "the default is out of bounds");
        }
        self.rule(Rule::BetweenFloat(min, max))
    }

    /// Says what a list may hold.
    pub const fn items(self, allowed: Items, names: &'static [&'static str]) -> Self {
        self.rule(Rule::List(allowed, names))
    }

    /// Sets the rule.
    pub const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    /// Everybody should know it.
    pub const fn high(mut self) -> Self {
        self.importance = Importance::High;
        self
    }

    /// Few will ever set it.
    pub const fn low(mut self) -> Self {
        self.importance = Importance::Low;
        self
    }

    /// Hidden unless it is set.
    pub const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// It changes at run time, for one broker or all.
    pub const fn cluster_wide(mut self) -> Self {
        self.reload = Reload::ClusterWide;
        self
    }

    /// It changes at run time, one broker at a time.
    pub const fn per_broker(mut self) -> Self {
        self.reload = Reload::PerBroker;
        self
    }

    /// Names the broker settings it falls back to, with their factors.
    pub const fn from_broker(mut self, names: &'static [(&'static str, i64)]) -> Self {
        self.broker_names = names;
        self
    }

    /// Ends the row of a setting that does what it says.
    pub const fn works(mut self, doc: &'static str) -> Self {
        self.standing = Standing::Works;
        self.doc = doc;
        self
    }

    /// Ends the row of a setting that changes nothing here.
    pub const fn no_effect(mut self, doc: &'static str) -> Self {
        self.standing = Standing::NoEffect;
        self.doc = doc;
        self
    }
}
