//! The table of supported keys as a page of the manual, `docs/configuration.md`.

use super::support::{Row, Section, Status, rows};
use std::fmt::Write;

const SECTIONS: &[(Section, &str)] = &[
    (Section::Top, "Top level"),
    (Section::Entry, "An entry of `model_list`"),
    (Section::Params, "`litellm_params`"),
    (Section::Info, "`model_info`"),
    (Section::Litellm, "`litellm_settings`"),
    (Section::Router, "`router_settings`"),
    (Section::General, "`general_settings`"),
    (Section::Gateway, "`gateway_settings` (nanogate's own; LiteLLM ignores the section)"),
    (Section::Flag, "Command line"),
    (Section::Variable, "Environment"),
];

const INTRODUCTION: &str = "# Configuration\n\n\
    Every key of LiteLLM's file, command line and environment that nanogate knows, and what becomes of it. This page is made from the \
    table in `src/config/support.rs`, which `nanogate check` reads too; a test fails when the two differ (`cargo test --lib bless_manual -- \
    --ignored` writes it anew). `conf/litellm_config.yaml` shows the supported keys in place, with their defaults.\n\n\
    **yes**: it works. **no effect**: accepted, nothing is lost by it. **not supported**: a warning says what happens instead. \
    **refused**: going on without it would change who gets in or where data goes, so nothing is served.\n";

/// The whole page.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    for (section, title) in SECTIONS {
        let _ = write!(page, "\n## {title}\n\n| key | supported | |\n|---|---|---|\n");
        for row in rows().iter().filter(|row| row.section == *section) {
            page.push_str(&line(row));
        }
    }
    page
}

fn line(row: &Row) -> String {
    let (word, note) = match row.status {
        Status::Honoured(shape) => ("yes", shape),
        Status::Parameter => ("yes", "a request parameter: the deployment's default"),
        Status::Unused(why) => ("no effect", why),
        Status::Unsupported(instead) => ("not supported", instead),
        Status::Refused(what) => ("refused", what),
        Status::AlwaysOn(why) => ("always on", why),
    };
    format!("| `{}` | {word} | {} |\n", row.key, note.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn page() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")
    }

    #[test]
    fn the_manual_is_not_stale() {
        let written = std::fs::read_to_string(page()).expect("docs/configuration.md is there");
        assert!(written == markdown(), "docs/configuration.md is stale: cargo test --lib bless_manual -- --ignored");
    }

    #[test]
    #[ignore = "writes docs/configuration.md"]
    fn bless_manual() {
        std::fs::write(page(), markdown()).expect("docs/ can be written");
    }

    #[test]
    fn every_row_has_a_section_on_the_page() {
        let page = markdown();
        assert!(rows().iter().all(|row| page.contains(&format!("| `{}` |", row.key))));
    }
}
