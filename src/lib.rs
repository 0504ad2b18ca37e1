//! MCP Registry Gateway.
