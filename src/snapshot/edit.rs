//! A request body as one deployment should get it: its parameter rules, applied by splicing.

use super::Deployment;
use crate::api::params::{Action, Edit, Refused, Shape};
use crate::wire::json::{Skim, quoted};
use crate::wire::splice::Splice;
use bytes::Bytes;
use std::borrow::Cow;

/// The edited body and what was done to it.
pub struct Edited {
    /// What goes upstream.
    pub body: Bytes,
    /// What the rules decided, the model name apart.
    pub edit: Edit,
}

impl Deployment {
    /// Edits `doc` for this deployment under the name `model`; `unwanted` are fields its upstream has complained about.
    ///
    /// # Errors
    /// When a parameter is not supported and may not be dropped.
    pub fn edit(
        &self,
        shape: Shape,
        doc: &Bytes,
        skim: &Skim,
        model: &str,
        unwanted: &[String],
    ) -> Result<Edited, Refused> {
        let rules = match model == &*self.upstream_model {
            true => Cow::Borrowed(&self.rules),
            false => Cow::Owned(self.rules.for_model(model)),
        };
        let edit = rules.decide(shape, doc, skim)?;
        let mut splice = Splice::new(doc, skim);
        for (index, action, _) in &edit.changes {
            match action {
                Action::Remove => splice.remove(*index),
                Action::Rename(key) => splice.rename(*index, key),
                Action::Replace(value) => splice.replace(*index, &value[..]),
            }
        }
        for (name, value, _) in &edit.additions {
            splice.append(name, value);
        }
        let quoted = match model == &*self.upstream_model {
            true => Cow::Borrowed(&*self.quoted_model),
            false => Cow::Owned(quoted(model)),
        };
        set_model(&mut splice, doc, skim, quoted);
        for index in unwanted.iter().filter_map(|name| skim.find(doc, name)) {
            splice.remove(index);
        }
        Ok(Edited { body: splice.finish(), edit })
    }
}

fn set_model<'a>(splice: &mut Splice<'a>, doc: &Bytes, skim: &Skim, quoted: Cow<'a, [u8]>) {
    match skim.find(doc, "model") {
        Some(index) if skim.value(doc, index) == &*quoted => {}
        Some(index) => splice.replace(index, quoted),
        None => splice.append("model", &quoted),
    }
}
