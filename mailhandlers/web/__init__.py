"""The page and the HTTP API: every store, read by a browser and by any language.

Needs ``pip install 'mailhandlers[web]'``. :func:`mailhandlers.web.server.serve` shows a store
until Ctrl-C; :class:`mailhandlers.web.process.PageProcess` does so beside the stock command;
:func:`mailhandlers.web.app.create_app` is the ASGI application of both.

Whatever a message holds is hostile here: it is escaped, or shown in a frame that runs nothing
and loads nothing from elsewhere.
"""
