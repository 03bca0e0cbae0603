"""A client of a coopserve server, for programs: blocking (:class:`Client`) and asynchronous (:class:`AsyncClient`).

It needs httpx and nothing else of the project::

    from coopserve.client import Client

    client = Client("http://127.0.0.1:8000")
    shoes = client.run("generate", model="fashion-ccoopnets", label="Sneaker", n=4)
    shoes.images[0].save("sneaker.png")
"""

from coopserve.client.asynchronous import AsyncClient, AsyncJob, AsyncTraining
from coopserve.client.blocking import Client, Job, Training
from coopserve.client.errors import (
    ApiError,
    AuthenticationError,
    ClientError,
    ConflictError,
    ForbiddenError,
    InvalidPictureError,
    InvalidRequestError,
    JobCancelledError,
    JobError,
    JobFailedError,
    LimitError,
    NotFoundError,
    RedirectedError,
    ServerError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
    UnsupportedTaskError,
    WaitTimeoutError,
)
from coopserve.client.results import Event, Picture, Result

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJob",
    "AsyncTraining",
    "AuthenticationError",
    "Client",
    "ClientError",
    "ConflictError",
    "Event",
    "ForbiddenError",
    "InvalidPictureError",
    "InvalidRequestError",
    "Job",
    "JobCancelledError",
    "JobError",
    "JobFailedError",
    "LimitError",
    "NotFoundError",
    "Picture",
    "RedirectedError",
    "Result",
    "ServerError",
    "TooLargeError",
    "Training",
    "UnavailableError",
    "UnreachableError",
    "UnsupportedTaskError",
    "WaitTimeoutError",
]
