"""HTTP: routes, middleware, problems."""
