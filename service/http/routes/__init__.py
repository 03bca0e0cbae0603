"""The routes: thin functions that read a request, call the parts and answer."""
