//! Header mutations by `HeaderMutation`: of the filter of that name, and of mirrored requests.

use adit_config::proto::envoy::config::common::mutation_rules::v3 as pb;
use adit_filter::StreamInfo;
use adit_http::{RequestHead, ResponseHead};
use adit_match::StringMatcher;
use http::HeaderMap;
use pb::header_mutation::Action;

use crate::{ConfigError, HeaderAdder};

/// Changes to fields, made one after the other.
#[derive(Debug, Default)]
pub struct HeaderMutations(Vec<Mutation>);

#[derive(Debug)]
enum Mutation {
    Change(HeaderAdder),
    RemoveOnMatch(StringMatcher),
}

impl HeaderMutations {
    /// From a list of mutations found at `path`.
    ///
    /// # Errors
    /// For a mutation without an action, and those of [`HeaderAdder::from_proto`] and of string matchers.
    pub fn from_proto(messages: &[pb::HeaderMutation], path: &str) -> Result<Self, ConfigError> {
        let mutations =
            messages.iter().enumerate().map(|(index, one)| Mutation::from_proto(one, &format!("{path}[{index}]")));
        Ok(Self(mutations.collect::<Result<_, _>>()?))
    }

    /// Changes a request's head.
    pub fn apply_request(&self, head: &mut RequestHead, info: &StreamInfo) {
        for mutation in &self.0 {
            match mutation {
                Mutation::Change(adder) => adder.apply_request(head, info),
                Mutation::RemoveOnMatch(matcher) => remove_matching(&mut head.headers, matcher),
            }
        }
    }

    /// Changes a response's head.
    pub fn apply_response(&self, head: &mut ResponseHead, request: Option<&RequestHead>, info: &StreamInfo) {
        for mutation in &self.0 {
            match mutation {
                Mutation::Change(adder) => adder.apply_response(head, request, info),
                Mutation::RemoveOnMatch(matcher) => remove_matching(&mut head.headers, matcher),
            }
        }
    }

    /// Whether a format of it may look at the request.
    pub fn reads_request(&self) -> bool {
        self.0.iter().any(|mutation| matches!(mutation, Mutation::Change(adder) if adder.reads_request()))
    }
}

impl Mutation {
    fn from_proto(message: &pb::HeaderMutation, path: &str) -> Result<Self, ConfigError> {
        Ok(match &message.action {
            None => return Err(ConfigError::new(path, "an action is required")),
            Some(Action::Append(option)) => {
                let one = std::slice::from_ref(option);
                let adder = HeaderAdder::from_proto(one, "", &[], "");
                Self::Change(adder.map_err(|error| relocate(error, &format!("{path}.append")))?)
            }
            Some(Action::Remove(name)) => {
                let one = std::slice::from_ref(name);
                let adder = HeaderAdder::from_proto(&[], "", one, "");
                Self::Change(adder.map_err(|error| relocate(error, &format!("{path}.remove")))?)
            }
            Some(Action::RemoveOnMatch(remove)) => {
                let path = format!("{path}.remove_on_match.key_matcher");
                let matcher = remove.key_matcher.as_ref().ok_or_else(|| ConfigError::missing(&*path))?;
                Self::RemoveOnMatch(StringMatcher::from_proto(matcher, &path)?)
            }
        })
    }
}

/// An error in a list of one, as an error of its one element.
fn relocate(error: ConfigError, path: &str) -> ConfigError {
    ConfigError::new(format!("{path}{}", error.path.trim_start_matches("[0]")), error.message)
}

fn remove_matching(headers: &mut HeaderMap, matcher: &StringMatcher) {
    let found: Vec<_> = headers.keys().filter(|name| matcher.matches(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}
