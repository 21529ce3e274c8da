//! The programs of the README and of the site's pages, run as doctests.

/// The README's blocks, run as tests.
#[doc = include_str!("../../../../README.md")]
struct Readme;

/// What an index shows of the crate.
#[doc = include_str!("../../README.md")]
struct OnAnIndex;

/// The programs of the site's first page, run as tests.
#[doc = concat!("```\n", include_str!("../../../../examples/start/event.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/start/queue.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/start/call.rs"), "```")]
struct Start;

/// The programs of the page on both languages, which need another one beside them.
#[doc = concat!("```no_run\n", include_str!("../../../../examples/start/weigh.rs"), "```")]
#[doc = concat!("```no_run\n", include_str!("../../../../examples/start/orders.rs"), "```")]
struct BesidePython;

/// The recipes of the site.
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/retry_api.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/one_or_all.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/progress.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/gather.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/rate_limit.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/run_once.rs"), "```")]
#[doc = concat!("```\n", include_str!("../../../../examples/recipes/browser.rs"), "```")]
struct Recipes;
