//! Arguments of verbs, read with errors that name them.

use nightjar_broker::admin::AdminError;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ctl::{CtlError, ErrorCode};

/// The arguments of a verb as a type.
///
/// # Errors
/// [`ErrorCode::Usage`].
pub fn read<T: DeserializeOwned>(args: Value) -> Result<T, CtlError> {
    serde_json::from_value(args)
        .map_err(|error| CtlError::new(ErrorCode::Usage, format!("arguments: {error}")))
}

/// What an administrator is told.
pub fn failed(error: AdminError) -> CtlError {
    let code = match &error {
        AdminError::NotFound(_) => ErrorCode::NotFound,
        AdminError::Exists(_) => ErrorCode::Refused,
        AdminError::Invalid(_) => ErrorCode::Usage,
        _ => ErrorCode::Failed,
    };
    CtlError::new(code, error.to_string())
}
