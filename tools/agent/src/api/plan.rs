//! `/v1/plan`: what a start or a replace would do.

use serde_json::Value;

use super::{Api, input, ok, origin};
use crate::error::{ApiError, Result};
use crate::http::{Request, Response};
use crate::loader::protocol::Origin;
use crate::spec::{Spec, expected};

/// The name in the spec of a plan, which is not started.
const UNNAMED: &str = "plan";

impl Api {
    pub(super) async fn plan(&self, request: Request) -> Result<Response> {
        let origin = origin(&request);
        let object = input::object(request, &self.limits).await?;
        input::only(
            &object,
            &["task", "package", "package_base64", "digest", "source", "signature", "args", "variables"],
        )?;
        let task = match object.get("task").unwrap_or(&Value::Null) {
            Value::Null => None,
            value => Some(value.as_u64().ok_or_else(|| expected("task", "the number of a task", value))?),
        };
        let is_given = |name: &str| match object.get(name).unwrap_or(&Value::Null) {
            Value::Array(list) => !list.is_empty(),
            Value::Object(members) => !members.is_empty(),
            other => !other.is_null(),
        };
        if task.is_some() && (is_given("args") || is_given("variables")) {
            return Err(ApiError::invalid(
                "args and variables are not allowed with task: a replace keeps those of the task",
            ));
        }
        let (spec, package) = (Spec::from_json(&object, UNNAMED)?, input::package(&object)?);
        self.blocking(move |tasks| {
            let (_, bytes, signature) = tasks.package(package)?;
            tasks.plan(task, &spec, &bytes, Origin { signature, ..origin })
        })
        .await
        .map(ok)
    }
}
