//! The admin interface
